"""Starts uvicorn, in this process or in several."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory

import uvicorn

from provider_registration import preflight
from provider_registration.app import create_app
from provider_registration.approvals.service import STOP_SECONDS
from provider_registration.observability.metrics import MULTIPROCESS_FOLDER
from provider_registration.settings import Settings
from provider_registration.web.server import BundlingProtocol

KEEP_ALIVE_SECONDS = 75  # longer than gateways keep idle connections (nginx: 60 s), so that the gateway closes first
WORKER_SECONDS = 60  # after which an unresponsive worker is replaced; on a busy machine it starts slowly
SHUTDOWN_MARGIN_SECONDS = 2  # for requests, in addition to the time for approvals
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - writable in a read-only container; the folder in it has a random name


class CannotServe(Exception):
    """The service does not start; the message says why."""


def serve(settings: Settings, *, workers: int, api: bool = True) -> None:
    """Serve until SIGINT or SIGTERM, in this process or in as many child processes as `workers`.

    Without `api`, one process serves only health and metrics, and works in the background.

    Raises:
        CannotServe: the database or the machine is not ready for it.
    """
    server = partial(
        uvicorn.run,
        host=settings.app_host,
        port=settings.app_port,
        log_config=None,
        access_log=False,  # RequestMiddleware writes that line
        server_header=False,
        http=BundlingProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_graceful_shutdown=int(STOP_SECONDS) + SHUTDOWN_MARGIN_SECONDS,
    )
    app = create_app(settings, api=api)  # first: importing redis in two threads at once fails
    _refuse_at_start(settings)
    if workers == 1:
        server(app)
        return
    with _metrics_folder() as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder  # the workers inherit it
        server("provider_registration.app:create_app_from_environment", factory=True, workers=workers)


def _refuse_at_start(settings: Settings) -> None:
    if refusal := preflight.find_refusal_at_start(settings):
        raise CannotServe(f"The service does not start: {refusal}.")


def _metrics_folder() -> TemporaryDirectory[str]:
    for place in (None, SHARED_MEMORY):
        with suppress(OSError):
            return TemporaryDirectory(prefix="provider-registration-metrics-", dir=place)
    raise CannotServe(
        "Several workers need a folder for their metrics, and none is writable: "
        "mount one at /tmp (docker run --tmpfs /tmp), or name one in TMPDIR."
    )
