"""The routes of imports."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from provider_registration.audit.dependencies import AuditLogDep
from provider_registration.audit.models import AuditEvent, AuditType, Subject
from provider_registration.auth.dependencies import AdminDep
from provider_registration.idempotency.dependencies import (
    REPLAYED_HEADER,
    IdempotencyKey,
    key_of_staff,
    replayed_header,
)
from provider_registration.imports.dependencies import CSV, FileContent, ImportId, ImportServiceDep, StartBody
from provider_registration.imports.errors import (
    FileUnreadable,
    ImportNotFound,
    ImportRunning,
    ImportsBusy,
    MappingInvalid,
    TooManyImports,
)
from provider_registration.imports.failed import ERRORS, ROW, failed_as_csv
from provider_registration.imports.schemas import (
    EXAMPLE_ERRORS,
    EXAMPLE_IMPORT,
    EXAMPLE_MAPPING,
    EXAMPLE_STARTED,
    ErrorListResponse,
    ErrorQuery,
    ImportListQuery,
    ImportListResponse,
    ImportResponse,
    ImportSummary,
    StartRequest,
)
from provider_registration.imports.service import MAX_STORED, SUBJECT
from provider_registration.jobs.errors import TooManyJobs
from provider_registration.jobs.links import THIS_JOB, job_url
from provider_registration.jobs.service import MAX_UNFINISHED
from provider_registration.web.head_requests import HeadersOnly, no_parts
from provider_registration.web.links import page_links
from provider_registration.web.openapi import EXAMPLE_ID, header, link_header, links, refuses, request_body, success
from provider_registration.web.pagination import Position
from provider_registration.web.parameters import ParametersOnce
from provider_registration.web.problems import InvalidRequest
from provider_registration.web.routing import Route, json_response

router = APIRouter(tags=["imports"], route_class=Route)

IMPORTS = "/imports"
IMPORT = f"{IMPORTS}/{{import_id}}"
ERRORS_OF_IMPORT = f"{IMPORT}/errors"
THIS_IMPORT = {"import_id": "$response.body#/import_id"}
LOCATION = header("Location", "The path of the import")
# One media type, which generators of clients understand; CSV and XLSX are accepted as well.
FILE = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": f"{';'.join(EXAMPLE_MAPPING.values())}\r\n"
                "Huerta del Sol S.L.;ventas@huertadelsol.example;naranjas, uvas;12;80\r\n",
            }
        },
    }
}
EXAMPLE_SUMMARY = {name: EXAMPLE_IMPORT[name] for name in ImportSummary.model_fields}


@router.post(
    IMPORTS,
    summary="Send a file of companies",
    status_code=HTTPStatus.CREATED,
    response_model=ImportResponse,
    responses=success(
        201,
        "The file was read; nothing is registered before it is started",
        EXAMPLE_IMPORT,
        LOCATION | REPLAYED_HEADER,
        links("start_import", "get_import", "delete_import", parameters=THIS_IMPORT),
    ),
    openapi_extra=FILE,
)
@refuses(
    FileUnreadable("The file has no rows below its headings."),
    ImportNotFound(EXAMPLE_ID),  # with the key of one that was deleted
    TooManyImports(MAX_STORED),
    ImportsBusy(),
)
async def add_import(
    request: Request,
    user: AdminDep,  # before the body
    sent: IdempotencyKey,
    content: FileContent,
    service: ImportServiceDep,
) -> Response:
    """Send a CSV file or an XLSX workbook of at most 20 MiB, 200,000 rows and 100 columns, with headings first.

    Its encoding and separator are found, and its columns guessed from the headings. Of a workbook, the first visible
    sheet is read.
    """
    key_of = partial(key_of_staff, sent, request, user) if sent else None
    import_id, is_replay = await service.add(content, actor=user.actor, key_of=key_of)
    headers = {"Location": f"{request.scope.get('root_path', '')}{IMPORTS}/{import_id}"} | replayed_header(is_replay)
    found = await service.get(import_id)
    return json_response(ImportResponse.of(found).model_dump_json(), HTTPStatus.CREATED, headers)


@router.get(
    IMPORTS,
    summary="List imports",
    responses=success(
        200,
        "Some imports, newest first",
        {"imports": [EXAMPLE_SUMMARY], "pagination": {"next_cursor": None}},
        link_header(IMPORTS),
        links("list_imports", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(InvalidRequest.at("query", "limit", "Input should be less than or equal to 100"))
async def list_imports(
    query: Annotated[ImportListQuery, Query()],
    service: ImportServiceDep,
    _user: AdminDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ImportListResponse:
    """List the imports of all admins. They are deleted 30 days after they were sent or last started."""
    after = Position.from_cursor(query.cursor) if query.cursor else None
    listed = ImportListResponse.of(*await service.page(limit=query.limit, after=after))
    response.headers.update(page_links(request, IMPORTS, query, listed.pagination.next_cursor))
    return listed


@router.get(
    IMPORT,
    summary="Read an import",
    responses=success(
        200,
        "The import, and the outcomes of its rows",
        EXAMPLE_IMPORT,
        links=links("start_import", "list_import_errors", parameters=THIS_IMPORT),
    ),
)
@refuses(ImportNotFound(EXAMPLE_ID))
async def get_import(import_id: ImportId, service: ImportServiceDep, _user: AdminDep) -> ImportResponse:
    """Read an import: its columns, how many of its rows are done, and with which outcome."""
    return ImportResponse.of(await service.get(import_id))


@router.post(
    f"{IMPORT}/start",
    summary="Start an import",
    status_code=HTTPStatus.ACCEPTED,
    responses=success(
        202,
        "A job checks or registers the rows",
        EXAMPLE_STARTED,
        header("Location", "The path of the job"),
        links("get_import", parameters=THIS_IMPORT) | links("get_job", "cancel_job", parameters=THIS_JOB),
    ),
    openapi_extra=request_body(
        (
            "application/json",
            StartRequest,
            {
                "Check the rows": {"dry_run": True},
                "Register them": {},
                "With a mapping": {"mapping": EXAMPLE_MAPPING, "notify": True},
            },
        ),
        required=False,
    ),
)
@refuses(
    ImportNotFound(EXAMPLE_ID),
    ImportRunning(EXAMPLE_ID),
    MappingInvalid({"contact_email": "needs a column of the file"}),
    TooManyJobs(MAX_UNFINISHED),
    InvalidRequest.at("body", "dry_run", "Input should be a valid boolean"),
)
async def start_import(
    request: Request,
    response: Response,
    import_id: ImportId,
    user: AdminDep,
    body: StartBody,
    service: ImportServiceDep,
) -> ImportResponse:
    """Check the rows, or register them as `POST /candidates` does, in the background.

    Rows that are registered already are left out, so an import can be started again with another mapping.
    """
    job_id = await service.start(
        import_id, actor=user.actor, is_dry=body.dry_run, notify=body.notify, mapping=body.mapping
    )
    response.headers["Location"] = job_url(request, job_id)
    return ImportResponse.of(await service.get(import_id))


@router.get(
    ERRORS_OF_IMPORT,
    summary="List rows with errors",
    responses=success(
        200,
        "Some rows with errors, in the order of the file",
        EXAMPLE_ERRORS,
        link_header(ERRORS_OF_IMPORT.format(import_id=EXAMPLE_ID)),
        links("list_import_errors", parameters={"cursor": "$response.body#/pagination/next_cursor"}),
    ),
)
@refuses(ImportNotFound(EXAMPLE_ID), InvalidRequest.at("query", "limit", "Input should be less than or equal to 100"))
async def list_import_errors(
    import_id: ImportId,
    query: Annotated[ErrorQuery, Query()],
    service: ImportServiceDep,
    _user: AdminDep,
    request: Request,
    response: Response,
    _once: ParametersOnce,
) -> ErrorListResponse:
    """List the rows that were not registered, or would not be, with what is wrong by field."""
    listed = ErrorListResponse.of(*await service.errors(import_id, limit=query.limit, after=query.cursor or 0))
    path = ERRORS_OF_IMPORT.format(import_id=import_id)
    response.headers.update(page_links(request, path, query, listed.pagination.next_cursor))
    return listed


@router.get(
    f"{IMPORT}/failed.csv",
    summary="Export the invalid rows",
    response_class=Response,
    responses={
        200: {
            "description": "The invalid rows as CSV, with what is wrong, to be corrected and sent again",
            "content": {CSV: {"schema": {"type": "string"}, "example": f"Empresa,Correo,{ROW},{ERRORS}\r\n"}},
        }
    },
)
@refuses(ImportNotFound(EXAMPLE_ID))
async def export_failed_rows(
    import_id: ImportId, service: ImportServiceDep, log: AuditLogDep, user: AdminDep, headers_only: HeadersOnly
) -> Response:
    """The invalid rows as CSV, with what is wrong. Correct them and send the file again: other columns are ignored."""
    found = await service.get(import_id)
    headers = {"Content-Disposition": 'attachment; filename="failed.csv"'}
    if headers_only:
        return StreamingResponse(no_parts(), headers=headers, media_type=CSV)
    await log.record(AuditEvent(AuditType.IMPORT_EXPORTED, user.actor, Subject(SUBJECT, import_id)))
    return StreamingResponse(failed_as_csv(found.columns, service.failed(import_id)), headers=headers, media_type=CSV)


@router.delete(
    IMPORT,
    summary="Delete an import",
    status_code=HTTPStatus.NO_CONTENT,
    responses={204: {"description": "Deleted, with its rows; companies that it registered stay"}},
)
@refuses(ImportNotFound(EXAMPLE_ID), ImportRunning(EXAMPLE_ID))
async def delete_import(import_id: ImportId, service: ImportServiceDep, user: AdminDep) -> None:
    """Delete an import and its rows. Companies that it registered stay."""
    await service.delete(import_id, actor=user.actor)
