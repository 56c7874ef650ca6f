"""Renders problem documents as pages for browsers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.pages.errors import CrossSiteRequest
from provider_registration.pages.rendering import PAGE_HEADERS, Renderer
from provider_registration.pages.translations import mark
from provider_registration.web.paths import is_below
from provider_registration.web.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX

# Never "reload": see ADVICE_AFTER_POST.
SEE_AGAIN = mark("Go back and open the page again to see the current state.")
# Heading and next step, by status; the problem's own `detail` says what happened.
ADVICE = {
    HTTPStatus.FORBIDDEN: (
        mark("You do not have permission"),
        mark("If you need access, ask an administrator."),
    ),
    HTTPStatus.NOT_FOUND: (mark("Page not found"), mark("Check the link, or go to the start page.")),
    HTTPStatus.REQUEST_TIMEOUT: (mark("Request timed out"), mark("Your connection may be slow. Try again.")),
    HTTPStatus.CONFLICT: (mark("Someone else changed this"), SEE_AGAIN),
    HTTPStatus.PRECONDITION_FAILED: (mark("This page is out of date"), SEE_AGAIN),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (mark("Too long"), mark("Shorten what you entered and try again.")),
    HTTPStatus.TOO_MANY_REQUESTS: (mark("Too many requests"), mark("Wait a moment, then go back and try again.")),
    HTTPStatus.BAD_GATEWAY: (mark("Another service failed"), SEE_AGAIN),
    HTTPStatus.SERVICE_UNAVAILABLE: (mark("Temporarily unavailable"), mark("Wait a moment, then reload the page.")),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        mark("Something went wrong"),
        mark("Try again. If the problem persists, contact support."),
    ),
}
# The same by problem type, where the status alone is too general.
ADVICE_BY_TYPE = {
    TYPE_PREFIX + CrossSiteRequest.code: (
        mark("The form came from another site"),
        mark("Nothing changed. Open the page on this site and try again."),
    ),
    TYPE_PREFIX + "webhooks-off": (mark("Webhooks are off"), mark("Ask the operator to turn them on.")),
}
# Reloading the response to a form sends the form again.
ADVICE_AFTER_POST = {
    HTTPStatus.SERVICE_UNAVAILABLE: (
        mark("Temporarily unavailable"),
        mark("Wait a moment, then reload this page to send the form again, with everything you entered."),
    ),
}
DEFAULT_ADVICE = (mark("The request failed"), mark("Go back, check what you entered and try again."))
WAIT = mark("You can try again %(when)s.")


def _field_errors(errors: list[dict[str, Any]]) -> list[str]:
    """One sentence for each field, without the type names used in the code."""
    sentences: dict[str, str] = {}
    for error in errors:
        name = (error.get("field") or "").partition(".")[0].replace("_", " ")
        if error["location"] in ("query", "path"):
            where = f"“{name}” in the URL has an unknown value." if name else "Part of the URL is not recognised."
            sentences.setdefault(name, where)
        else:
            sentences.setdefault(name, f"{name.capitalize()}: {error['detail']}" if name else error["detail"])
    return list(sentences.values())


class ErrorPages:
    """Wraps the whole application and renders problem documents below some paths as pages."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        renderer: Renderer,
        root_path: str,
        homes: Mapping[str, str],
        translated: Collection[str] = (),
    ) -> None:
        """`homes` maps a path prefix to the start page of that area.

        Pages below the prefixes in `translated` are in the visitor's language, and do not show the problem's own texts,
        which are in English and for programs.
        """
        self._app = app
        self._renderer = renderer
        self._root_path = root_path
        self._homes = homes
        self._translated = translated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = self._prefix_of(scope)
        if prefix is None:
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def send_page(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type") == PROBLEM_MEDIA_TYPE:
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    page = self._page(json.loads(body), start, prefix, Request(scope))
                    await send(start)
                    await send({"type": "http.response.body", "body": page})
                return
            await send(message)

        await self._app(scope, receive, send_page)

    def _prefix_of(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            return None
        path = scope["path"].removeprefix(self._root_path)
        return next((prefix for prefix in self._homes if is_below(path, prefix)), None)

    def _page(self, problem: dict[str, Any], start: Message, prefix: str, request: Request) -> bytes:
        by_status = ADVICE | ADVICE_AFTER_POST if request.method == "POST" else ADVICE
        heading, advice = ADVICE_BY_TYPE.get(problem["type"]) or by_status.get(
            HTTPStatus(problem["status"]), DEFAULT_ADVICE
        )
        headers = MutableHeaders(raw=start["headers"])
        languages, home = self._renderer.languages, self._root_path + self._homes[prefix]
        negotiated = languages.of(request) if prefix in self._translated else None
        language = negotiated or languages.english
        if negotiated:
            home = languages.keep_choice(request, home)
            wait = headers.get("retry-after")
            errors = [negotiated.say(WAIT, when=negotiated.wait(int(wait)))] if wait else []
        else:
            errors = _field_errors(problem.get("errors", []))
            if not errors and problem["detail"] != f"{problem['title']}.":  # which would repeat the heading
                errors = [problem["detail"]]
        page = self._renderer.render(
            "pages/error.html",
            language,
            root=self._root_path,
            flash=None,
            heading=language.say(heading),
            advice=language.say(advice),
            problem=problem,
            errors=errors,
            request_id=headers.get("x-request-id"),
            home=home,
        ).encode()
        headers.update(PAGE_HEADERS | {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page))})
        headers["Referrer-Policy"] = "no-referrer"  # the URL may be secret, and an error page has no form
        headers["Content-Language"] = language.tag
        if negotiated:
            headers.add_vary_header("Accept-Language")
        start["headers"] = headers.raw
        return page
