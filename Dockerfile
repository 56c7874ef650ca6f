# The container image; DEPLOYMENT.md explains how to run it.
FROM python:3.13-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore UV_NO_CACHE=1
WORKDIR /build

# The environment has no pip: nothing is installed in a running container.
RUN python -m venv --without-pip /venv
COPY requirements requirements
RUN pip install --no-deps --require-hashes --requirement requirements/install.txt
# For TRACING: requirements/tracing.txt; for EVENTS_NATS_URL: requirements/nats.txt; for GRAPHQL: requirements/graphql.txt
ARG REQUIREMENTS=requirements/runtime.txt
RUN uv pip install --python /venv --no-deps --require-hashes --compile-bytecode --requirement "$REQUIREMENTS"

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN uv build --wheel --no-build-isolation --out-dir wheels \
    && uv pip install --python /venv --no-deps --compile-bytecode wheels/*.whl


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
# Which commit this is: docker build --build-arg SOURCE_COMMIT="$(git rev-parse HEAD)"
ARG SOURCE_COMMIT=""
ENV SOURCE_COMMIT=$SOURCE_COMMIT
LABEL org.opencontainers.image.revision=$SOURCE_COMMIT

USER 10001:10001
EXPOSE 5004

# ProxyHandler({}): ignore the container's proxy settings.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"APP_PORT\"]}/health/live', timeout=2)"]

CMD ["provider-registration", "serve"]
