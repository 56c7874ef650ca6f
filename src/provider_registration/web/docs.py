"""Swagger UI at `/docs`, from files installed with a package: no browser is sent to another host."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

router = APIRouter(include_in_schema=False)

ASSETS = Path(str(files("fastapi_swagger") / "resources"))
Asset = Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"]


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The page that teaches the API."""
    prefix = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{prefix}{request.app.openapi_url}",
        title=request.app.title,
        swagger_js_url=f"{prefix}/docs/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}/docs/swagger-ui.css",
        swagger_favicon_url=f"{prefix}/docs/favicon-32x32.png",
        swagger_ui_parameters={"persistAuthorization": True, "displayRequestDuration": True},
    )


@router.get("/docs/{asset}")
def docs_asset(asset: Asset) -> FileResponse:
    """One of Swagger UI's files."""
    return FileResponse(ASSETS / asset)
