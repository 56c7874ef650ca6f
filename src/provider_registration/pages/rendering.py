"""Templates into pages, with the headers that keep a page to itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from provider_registration.pages.assets import Assets
from provider_registration.pages.compression import MIN_BYTES, accepts_gzip, compress
from provider_registration.pages.notices import forget_notice, read_notice

HERE = Path(__file__).parent
# No page has a script or a style of its own: what a stranger could slip into one would not run.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",  # no-referrer would have forms say `Origin: null`
    "X-Robots-Tag": "noindex",
}


class Renderer:
    """Makes pages of the templates in some rooms' folders; each room has `templates/` and `static/`."""

    def __init__(self, rooms: Sequence[Path] = ()) -> None:
        folders = [HERE, *rooms]
        self.assets = Assets(folder / "static" for folder in folders)
        self._environment = Environment(
            loader=FileSystemLoader([folder / "templates" for folder in folders]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(instant=instant, ago=ago, duration=duration, number=number)

    def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
        **values: Any,  # noqa: ANN401 - whatever the template shows
    ) -> HTMLResponse:
        """Answer with a page. Templates know `root`, the gateway's prefix, and `static(file name)`, an address."""
        notice = read_notice(request)
        content = self.render(template, root=request.scope.get("root_path", ""), notice=notice, **values).encode()
        headers = PAGE_HEADERS | {"Vary": "Accept-Encoding"} | (headers or {})
        if len(content) >= MIN_BYTES and accepts_gzip(request):
            content = compress(content)
            headers["Content-Encoding"] = "gzip"
        response = HTMLResponse(content, status, headers)
        if notice is not None:
            forget_notice(response)
        return response

    def render(self, template: str, *, root: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
        """The text of a page."""
        return self._environment.get_template(template).render(
            root=root, static=lambda name: f"{root}/static/{self.assets.name_of(name)}", **values
        )


def instant(value: datetime) -> str:
    """A point in time for people: 14 Mar 2026, 09:26 UTC."""
    return f"{value.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def ago(value: datetime) -> str:
    """How long ago something was, in one unit."""
    return f"{duration(datetime.now(UTC) - value)} ago"


DAY, HOUR, MINUTE = 86_400, 3_600, 60


def duration(value: timedelta | float | None) -> str:
    """A span of time, timedelta or seconds, in the largest unit that fits: 3 days, 2.5 h, 12 min, 40 s."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.0f} days"
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f}".removesuffix(".0") + " h"
    return f"{seconds / MINUTE:.0f} min" if seconds >= MINUTE else f"{max(seconds, 0):.0f} s"


def number(value: float) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"
