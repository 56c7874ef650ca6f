"""Problem documents as pages, for people who asked for a page."""

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
from provider_registration.web.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX

# What happened and what a person can do about it, by status.
ADVICE = {
    HTTPStatus.FORBIDDEN: (mark("Access denied"), mark("If you should have access, ask an administrator.")),
    HTTPStatus.NOT_FOUND: (mark("Page not found"), mark("Check the link, or go to the start page.")),
    HTTPStatus.REQUEST_TIMEOUT: (mark("That took too long"), mark("Your connection may be slow. Try again.")),
    HTTPStatus.CONFLICT: (mark("Someone else changed this"), mark("Open the page again to see its current state.")),
    HTTPStatus.PRECONDITION_FAILED: (mark("This page is out of date"), mark("Open it again to see its current state.")),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (mark("Too long"), mark("Shorten what you typed, and try again.")),
    HTTPStatus.TOO_MANY_REQUESTS: (mark("Too many requests"), mark("Wait a moment, then go back and try again.")),
    HTTPStatus.BAD_GATEWAY: (mark("Another service failed"), mark("Open the page again to see its current state.")),
    HTTPStatus.SERVICE_UNAVAILABLE: (mark("Temporarily unavailable"), mark("Wait a moment, then open the page again.")),
    HTTPStatus.INTERNAL_SERVER_ERROR: (
        mark("Something went wrong"),
        mark("Try again. If it happens again, contact support."),
    ),
}
# The same by a problem's own type, where the status says too little.
ADVICE_OF_TYPE = {
    TYPE_PREFIX + CrossSiteRequest.code: (
        mark("The form came from another site"),
        mark("Nothing was changed. Open the page here, and try again."),
    )
}
# A browser that reloads the response to a form sends the form again.
ADVICE_TO_SENDERS = {
    HTTPStatus.SERVICE_UNAVAILABLE: (
        mark("Temporarily unavailable"),
        mark("Wait a moment, then reload this page: that sends the form again, with everything you typed."),
    ),
}
ELSE = (mark("That did not work"), mark("Go back, check what you typed, and try again."))
WAIT = mark("You can try again %(when)s.")


def _wrong(errors: list[dict[str, Any]]) -> list[str]:
    """A sentence for each field, without the names that types have in the code."""
    sentences: dict[str, str] = {}
    for error in errors:
        name = (error.get("field") or "").partition(".")[0].replace("_", " ")
        if error["location"] in ("query", "path"):
            where = f"an unknown value of “{name}”" if name else "something that this page does not know"
            sentences.setdefault(name, f"The URL has {where}.")
        else:
            sentences.setdefault(name, f"{name.capitalize()}: {error['detail']}" if name else error["detail"])
    return list(sentences.values())


class ErrorPages:
    """Around the whole application: answers below some paths that are problem documents become pages."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        renderer: Renderer,
        root_path: str,
        homes: Mapping[str, str],
        translated: Collection[str] = (),
    ) -> None:
        """`homes` leads from the beginning of a path to the page where people start there.

        Below the beginnings that are `translated`, a page is in the visitor's language and shows no problem's own
        sentences, which are in English and for programs.
        """
        self._app = app
        self._renderer = renderer
        self._root_path = root_path
        self._homes = homes
        self._translated = translated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        beginning = self._beginning_of(scope)
        if beginning is None:
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
                    page = self._page(json.loads(body), start, beginning, Request(scope))
                    await send(start)
                    await send({"type": "http.response.body", "body": page})
                return
            await send(message)

        await self._app(scope, receive, send_page)

    def _beginning_of(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            return None
        path = scope["path"].removeprefix(self._root_path)
        return next((start for start in self._homes if path == start or path.startswith(f"{start}/")), None)

    def _page(self, problem: dict[str, Any], start: Message, beginning: str, request: Request) -> bytes:
        by_status = ADVICE | ADVICE_TO_SENDERS if request.method == "POST" else ADVICE
        heading, advice = ADVICE_OF_TYPE.get(problem["type"]) or by_status.get(HTTPStatus(problem["status"]), ELSE)
        headers = MutableHeaders(raw=start["headers"])
        languages, home = self._renderer.languages, self._root_path + self._homes[beginning]
        negotiated = languages.of(request) if beginning in self._translated else None
        language = negotiated or languages.english
        if negotiated:
            home = languages.keep_choice(request, home)
            wait = headers.get("retry-after")
            wrong = [negotiated.say(WAIT, when=negotiated.wait(int(wait)))] if wait else []
        else:
            wrong = _wrong(problem.get("errors", [])) or [problem["detail"]]
        page = self._renderer.render(
            "pages/error.html",
            language,
            root=self._root_path,
            notice=None,
            heading=language.say(heading),
            advice=language.say(advice),
            problem=problem,
            wrong=wrong,
            request_id=headers.get("x-request-id"),
            home=home,
        ).encode()
        headers.update(PAGE_HEADERS | {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page))})
        headers["Content-Language"] = language.tag
        if negotiated:
            headers.add_vary_header("Accept-Language")
        start["headers"] = headers.raw
        return page
