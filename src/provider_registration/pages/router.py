"""The routes for static files and `/`, and the dependencies of pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from provider_registration.pages.compression import accepts_gzip
from provider_registration.pages.rendering import Renderer
from provider_registration.web.services import provide

router = APIRouter(include_in_schema=False)

CACHE_FOREVER = "public, max-age=31536000, immutable"


class StartPage(str):
    """The path of the start page."""


RendererDep = Annotated[Renderer, Depends(provide(Renderer))]


@router.get("/")
async def redirect_to_start(request: Request, start: Annotated[StartPage, Depends(provide(StartPage))]) -> Response:
    """Redirect to the start page."""
    return RedirectResponse(request.scope.get("root_path", "") + start, HTTPStatus.SEE_OTHER)


@router.get("/static/{name}")
async def static_file(name: str, request: Request, renderer: RendererDep) -> Response:
    """Serve a style sheet, script or image; its name changes with its content."""
    asset = renderer.assets.find(name)
    if asset is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    headers = {"Cache-Control": CACHE_FOREVER, "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        return Response(asset.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.plain, headers=headers, media_type=asset.media_type)
