"""The ceiling of the server stack: uvicorn with uvloop and httptools, one Starlette route, no middleware."""

from __future__ import annotations

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = b'{"status":"ok"}'


async def live(_request: Request) -> Response:
    """The same bytes for everyone."""
    return Response(BODY, media_type="application/json")


app = Starlette(routes=[Route("/health/live", live)])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
