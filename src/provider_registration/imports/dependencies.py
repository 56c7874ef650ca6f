"""Dependencies of the endpoints of imports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from provider_registration.auth.dependencies import AdminDep
from provider_registration.db.database import DatabaseUnavailable
from provider_registration.imports.limits import MAX_FILE_BYTES
from provider_registration.imports.schemas import StartRequest
from provider_registration.imports.service import ImportService
from provider_registration.web.body import allow_large_body, json_body, media_type_of
from provider_registration.web.openapi import refuses
from provider_registration.web.problems import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from provider_registration.web.services import provide

UPLOAD_SECONDS = 300  # for a whole file to arrive: 70 kB/s
CSV, XLSX = "text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# What programs call these files; the content decides how a file is read.
MEDIA_TYPES = (
    *(CSV, XLSX, "application/octet-stream", "text/plain", "text/tab-separated-values"),
    "application/vnd.ms-excel",
)

ImportServiceDep = Annotated[ImportService, Depends(provide(ImportService, DatabaseUnavailable()))]
ImportId = Annotated[UUID, Path(description="The import's ID")]
StartBody = Annotated[StartRequest, Depends(json_body(StartRequest, optional=True))]


@refuses(BodyTooLarge(MAX_FILE_BYTES), BodyTooSlow(UPLOAD_SECONDS), UnsupportedMediaType(CSV, XLSX))
async def read_file(request: Request, _user: AdminDep) -> AsyncIterator[bytes]:
    """The file that an admin sends, as it arrives."""
    if media_type_of(request) not in MEDIA_TYPES:
        raise UnsupportedMediaType(CSV, XLSX)
    allow_large_body(request, MAX_FILE_BYTES, UPLOAD_SECONDS)
    return request.stream()


FileContent = Annotated[AsyncIterator[bytes], Depends(read_file)]
