"""The OpenAPI document, and Swagger UI and ReDoc, served from installed packages and not from other hosts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

router = APIRouter(include_in_schema=False)

MAX_CACHED = 4  # documents and pages, one for each prefix
SWAGGER = Path(str(files("fastapi_swagger") / "resources"))
SwaggerAsset = Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"]
REDOC = Path(str(files("fastapi_standalone_docs") / "static" / "redoc"))
RedocAsset = Literal["redoc.standalone.js", "logo-mini.svg"]
INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# ReDoc creates <style> elements, which no hash can allow, and a search worker from text in its bundle.
REDOC_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI 3.1 document, with the gateway's prefix in its URLs."""
    document = _documents(request.app, request.scope.get("root_path", ""))
    return Response(await asyncio.shield(document), media_type="application/json")


@lru_cache(MAX_CACHED)
def _documents(app: FastAPI, prefix: str) -> asyncio.Future[bytes]:
    """The document, built once in a thread; one thread for each request would block the event loop."""
    return asyncio.ensure_future(asyncio.to_thread(_document, app, prefix))


def _document(app: FastAPI, prefix: str) -> bytes:
    document: dict[str, Any] = app.openapi()
    if prefix:
        document = {**document, "servers": [{"url": prefix}]}
    return bytes(JSONResponse(document).body)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI."""
    page = _swagger(request.app.title, request.scope.get("root_path", ""))
    return HTMLResponse(page.body, headers={"Content-Security-Policy": page.headers["Content-Security-Policy"]})


@lru_cache(MAX_CACHED)
def _swagger(title: str, prefix: str) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title=title,
        swagger_js_url=f"{prefix}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}/docs/swagger-ui.css",
        swagger_favicon_url=f"{prefix}/docs/favicon-32x32.png",
        swagger_ui_parameters={"displayRequestDuration": True},
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body).decode())
    return page


@router.get("/docs/{asset}")
async def docs_asset(asset: SwaggerAsset) -> FileResponse:
    """One of Swagger UI's files."""
    return FileResponse(SWAGGER / asset)


@router.get("/redoc")
async def redoc(request: Request) -> HTMLResponse:
    """ReDoc."""
    prefix = request.scope.get("root_path", "")
    page = get_redoc_html(
        openapi_url=f"{prefix}/openapi.json",
        title=request.app.title,
        redoc_js_url=f"{prefix}/redoc/redoc.standalone.js",
        redoc_favicon_url=f"{prefix}/docs/favicon-32x32.png",
        with_google_fonts=False,
    )
    page.headers["Content-Security-Policy"] = REDOC_POLICY
    return page


@router.get("/redoc/{asset}")
async def redoc_asset(asset: RedocAsset) -> FileResponse:
    """One of ReDoc's files."""
    return FileResponse(REDOC / asset)


def _policy(page: str) -> str:
    """Allow scripts of this host and of the page; Swagger UI sets inline styles, which no hash can allow."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in INLINE_SCRIPT.findall(page))
    scripts = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
