"""Problem documents as pages, for people who asked for a page."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_registration.pages.errors import CrossSiteRequest
from provider_registration.pages.rendering import PAGE_HEADERS, Renderer
from provider_registration.web.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX

# What a person can do about it, by status; what happened this time is the problem's own sentence.
ADVICE = {
    HTTPStatus.FORBIDDEN: ("You may not do this", "If you should be able to, ask whoever keeps the accounts."),
    HTTPStatus.NOT_FOUND: ("There is nothing here", "Check the address, or start again from the first page."),
    HTTPStatus.REQUEST_TIMEOUT: ("That took too long", "Your connection may be slow: try again."),
    HTTPStatus.CONFLICT: ("Somebody was faster", "Open the page again to see how things stand."),
    HTTPStatus.PRECONDITION_FAILED: ("The page was out of date", "Open it again to see how things stand."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("That was too much", "Shorten what you typed, and try again."),
    HTTPStatus.TOO_MANY_REQUESTS: ("Too many requests", "Wait a moment, then go back and try again."),
    HTTPStatus.BAD_GATEWAY: ("Another service failed", "Open the page again to see how things stand."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Not available just now", "Wait a moment, then open the page again."),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("Something went wrong here", "Try again; if it stays so, tell the operators."),
}
# The same by a problem's own type, where the status says too little.
ADVICE_OF_TYPE = {TYPE_PREFIX + CrossSiteRequest.code: ("The form came from another site", "Nothing was done.")}
# A browser that reloads the answer to a form sends the form again.
ADVICE_TO_SENDERS = {
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Not available just now",
        "Wait a moment, then reload this page: that sends the form again, with all you typed.",
    ),
}
ELSE = ("That did not work", "Go back, check what you typed, and try again.")


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

    def __init__(self, app: ASGIApp, *, renderer: Renderer, root_path: str, homes: dict[str, str]) -> None:
        """`homes` leads from the beginning of a path to the page where people start there."""
        self._app = app
        self._renderer = renderer
        self._root_path = root_path
        self._homes = homes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        home = self._home_of(scope)
        if home is None:
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
                    page = self._page(json.loads(body), start, home, is_form=scope["method"] == "POST")
                    await send(start)
                    await send({"type": "http.response.body", "body": page})
                return
            await send(message)

        await self._app(scope, receive, send_page)

    def _home_of(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            return None
        path = scope["path"].removeprefix(self._root_path)
        return next(
            (home for start, home in self._homes.items() if path == start or path.startswith(f"{start}/")), None
        )

    def _page(self, problem: dict[str, Any], start: Message, home: str, *, is_form: bool) -> bytes:
        by_status = ADVICE | ADVICE_TO_SENDERS if is_form else ADVICE
        heading, advice = ADVICE_OF_TYPE.get(problem["type"]) or by_status.get(HTTPStatus(problem["status"]), ELSE)
        headers = MutableHeaders(raw=start["headers"])
        page = self._renderer.render(
            "pages/error.html",
            root=self._root_path,
            notice=None,
            heading=heading,
            advice=advice,
            problem=problem,
            wrong=_wrong(problem.get("errors", [])),
            request_id=headers.get("x-request-id"),
            home=self._root_path + home,
        ).encode()
        headers.update({**PAGE_HEADERS, "Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page))})
        start["headers"] = headers.raw
        return page
