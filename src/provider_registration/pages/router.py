"""The route of static files, and what routes of pages are given."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from provider_registration.pages.compression import accepts_gzip
from provider_registration.pages.rendering import Renderer
from provider_registration.web.services import given

router = APIRouter(include_in_schema=False)

FOR_EVER = "public, max-age=31536000, immutable"


class FrontDoor(str):
    """The path of the page where people begin."""


RendererDep = Annotated[Renderer, Depends(given(Renderer))]


@router.get("/")
async def lead_in(request: Request, front_door: Annotated[FrontDoor, Depends(given(FrontDoor))]) -> Response:
    """Lead whoever typed nothing but the host's name to where people begin."""
    return RedirectResponse(request.scope.get("root_path", "") + front_door, HTTPStatus.SEE_OTHER)


@router.get("/static/{name}")
async def static_file(name: str, request: Request, renderer: RendererDep) -> Response:
    """A style, script or picture; a change of its content changes its name."""
    asset = renderer.assets.find(name)
    if asset is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    if accepts_gzip(request):
        return Response(asset.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.plain, headers=headers, media_type=asset.media_type)
