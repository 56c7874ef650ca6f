"""Pages for API keys: add, whose key is shown once, and revoke."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import ValidationError
from starlette.responses import Response

from provider_registration.api_keys.dependencies import ApiKeyServiceDep
from provider_registration.api_keys.errors import ExpiryInThePast
from provider_registration.api_keys.models import ApiKey, KeyState
from provider_registration.api_keys.schemas import ApiKeyRequest
from provider_registration.auth.models import Role
from provider_registration.console.decisions import Outcome
from provider_registration.console.dependencies import DecidingUserDep
from provider_registration.console.layout import API_KEY, API_KEYS, LayoutDep
from provider_registration.pages.forms import Form, FormDep
from provider_registration.web.pagination import MAX_OFFSET, Page

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 50
ROLES = {
    Role.VIEWER: "Viewer: reads candidates",
    Role.AUDITOR: "Auditor: also reads events and who did what",
    Role.ADMIN: "Admin: also approves and rejects",
}
STATES = {KeyState.ACTIVE: "Active", KeyState.EXPIRED: "Expired", KeyState.REVOKED: "Revoked"}
MISTAKES = {
    "name": "Enter a name of 100 characters or fewer",
    "role": "Select a role",
    "expires_at": "Enter a day that is not in the past, or leave it empty",
}

PageNumber = Annotated[int, Query(ge=1, le=MAX_OFFSET // PAGE_SIZE)]


async def find_api_key(api_key_id: UUID, _signed_in: DecidingUserDep, service: ApiKeyServiceDep) -> ApiKey:
    """The API key in the path, for admins."""
    return await service.get(api_key_id)


ApiKeyDep = Annotated[ApiKey, Depends(find_api_key)]


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The form of a key: the request, or (ID of the field, sentence) for each error."""

    request: ApiKeyRequest | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)


@router.get(API_KEYS)
async def list_api_keys(
    _signed_in: DecidingUserDep, service: ApiKeyServiceDep, layout: LayoutDep, page: PageNumber = 1
) -> Response:
    """List the API keys, newest first."""
    found = await service.page(Page(PAGE_SIZE, (page - 1) * PAGE_SIZE))
    has_more = found.next is not None
    return layout.page("api_keys.html", api_keys=found.api_keys, page=page, has_more=has_more, states=STATES)


@router.get(f"{API_KEYS}/new")
async def show_form(_signed_in: DecidingUserDep, layout: LayoutDep) -> Response:
    """Ask for the name, the role and the last day."""
    return _form(layout, ParsedKey(), Form({}))


@router.post(f"{API_KEYS}/new")
async def add(signed_in: DecidingUserDep, form: FormDep, service: ApiKeyServiceDep, layout: LayoutDep) -> Response:
    """Create an API key and show it once."""
    parsed = _parse(form)
    if parsed.request is None:
        return _form(layout, parsed, form)
    request = parsed.request
    try:
        created = await service.create(request.name, request.role, request.expires_at, actor=signed_in.user.actor)
    except ExpiryInThePast:
        return _form(layout, ParsedKey(errors=[("expires_at", MISTAKES["expires_at"])]), form)
    return layout.page("api_key_created.html", api_key=created.api_key, key=created.key)


@router.get(f"{API_KEY}/revoke")
async def confirm_revocation(api_key: ApiKeyDep, layout: LayoutDep) -> Response:
    """Ask for confirmation."""
    return layout.page("api_key_revoke.html", api_key=api_key)


@router.post(f"{API_KEY}/revoke")
async def revoke(
    api_key: ApiKeyDep, signed_in: DecidingUserDep, service: ApiKeyServiceDep, layout: LayoutDep
) -> Response:
    """Revoke it."""
    await service.revoke(api_key.api_key_id, actor=signed_in.user.actor)
    return layout.redirect(API_KEYS, Outcome("success", f"{api_key.name}: the API key was revoked."))


def _form(layout: LayoutDep, parsed: ParsedKey, typed: Form) -> Response:
    return layout.page(
        "api_key_form.html", status=422 if parsed.errors else 200, errors=parsed.errors, typed=typed, roles=ROLES
    )


def _parse(form: Form) -> ParsedKey:
    """Validate the form by the rules of the API; the last day is included."""
    values: dict[str, str | None] = {"name": form.get("name"), "role": form.get("role"), "expires_at": None}
    errors: list[str] = []
    if typed := form.get("expires_at").strip():
        try:
            values["expires_at"] = _end_of(date.fromisoformat(typed)).isoformat()
        except (ValueError, OverflowError):
            errors.append("expires_at")
    try:
        request = ApiKeyRequest.model_validate(values)
    except ValidationError as error:
        errors += [str(each["loc"][0]) for each in error.errors()]
    if errors:
        return ParsedKey(errors=[(name, MISTAKES[name]) for name in MISTAKES if name in errors])
    return ParsedKey(request)


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time.min, UTC)
