# The service as a container image; DEPLOYMENT.md says how it is started.
FROM python:3.13-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The environment gets no pip of its own: nothing is installed in a running container.
RUN python -m venv --without-pip /venv
COPY requirements requirements
# Or requirements/tracing.txt, for TRACING.
ARG REQUIREMENTS=requirements/runtime.txt
RUN pip --python /venv/bin/python install --require-hashes --requirement "$REQUIREMENTS"

# The project's wheel is built by the setuptools that requirements/local.txt pins.
RUN awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements/local.txt > requirements/build.txt \
    && pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /venv/bin/python install --no-deps wheels/*.whl


FROM python:3.13-slim-bookworm

RUN useradd --system --uid 10001 --user-group --no-create-home provider-registration
WORKDIR /app
COPY --from=build /venv /venv
COPY alembic.ini ./
COPY alembic alembic

ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    APP_HOST=0.0.0.0 \
    APP_PORT=5004
USER 10001:10001
EXPOSE 5004

# ProxyHandler({}): a proxy that the container was given is not for this.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"APP_PORT\"]}/health/live', timeout=2)"]

CMD ["provider-registration", "serve"]
