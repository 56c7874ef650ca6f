"""A client of the API, for the command line."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import httpx

from provider_registration.remote.errors import Refused, Unreachable

CONNECT_SECONDS = 10.0
READ_SECONDS = 90.0  # an approval calls billing up to four times
FILE_SECONDS = 600.0  # for the response to a file, which is read first
CHECK_SECONDS, LONGEST_CHECK_SECONDS = 0.25, 5.0  # between looks at an import that is running
RUNNING = frozenset({"reading", "checking", "importing"})
MAX_TRIES = 4
MAX_WAIT_SECONDS = 10.0  # for a longer Retry-After the command ends
PAGE = 100
REPEATED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})  # not carried out, says API.md
UNCERTAIN = frozenset({"internal-error", "database-unavailable"})  # a decision may have been stored
MAX_SHOWN = 200  # characters of a response that is not the service's


class Client:
    """Sends requests to the service at `url` with a key or an access token."""

    def __init__(self, url: str, key: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def candidates(self, filters: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
        """At most `limit` candidates, page by page."""
        cursor: str | None = None
        while limit > 0:
            query = {**filters, "limit": str(min(limit, PAGE)), **({"cursor": cursor} if cursor else {})}
            page = self._request("GET", "/candidates", params=query).json()
            yield from page["candidates"]
            limit -= len(page["candidates"])
            cursor = page["pagination"]["next_cursor"]
            if not cursor:
                return

    def candidate(self, candidate_id: str) -> tuple[dict[str, Any], str]:
        """A candidate and its entity tag."""
        response = self._request("GET", f"/candidates/{quote(candidate_id, safe='')}")
        return response.json(), response.headers["ETag"]

    def decide(
        self, decision: str, candidate_id: str, body: Mapping[str, object], *, if_match: str, key: str | None = None
    ) -> dict[str, Any]:
        """Approve or reject a candidate of this version; every repetition has the same Idempotency-Key."""
        headers = {"If-Match": if_match, "Idempotency-Key": key or str(uuid.uuid4())}
        path = f"/candidates/{quote(candidate_id, safe='')}/{decision}"
        try:
            decided: dict[str, Any] = self._request("POST", path, json=body, headers=headers).json()
        except Unreachable as error:
            hint = (
                f"It may have been done: check with `show`. Repeat with --idempotency-key {headers['Idempotency-Key']}"
            )
            raise Unreachable(f"{error.message}\n{hint}") from error
        return decided

    def add_import(self, content: bytes) -> dict[str, Any]:
        """Send a file of companies; return the import, of which nothing is registered yet."""
        headers = {"Content-Type": "application/octet-stream"}
        timeout = httpx.Timeout(FILE_SECONDS, connect=CONNECT_SECONDS)
        added: dict[str, Any] = self._request(
            "POST", "/imports", content=content, headers=headers, timeout=timeout
        ).json()
        return added

    def start_import(self, import_id: str, body: Mapping[str, object]) -> None:
        """Have the rows checked or registered."""
        self._request("POST", f"/imports/{import_id}/start", json=body)

    def watch_import(self, import_id: str) -> Iterator[dict[str, Any]]:
        """The import now and then, until it has ended."""
        wait = CHECK_SECONDS
        while (found := self._request("GET", f"/imports/{import_id}").json())["state"] in RUNNING:
            yield found
            self._sleep(wait)
            wait = min(2 * wait, LONGEST_CHECK_SECONDS)
        yield found

    def save_failed_rows(self, import_id: str, file: BinaryIO) -> None:
        """Write the invalid rows of an import as CSV.

        Raises:
            Refused, Unreachable: the service refused it, or the file did not come to its end.
        """
        try:
            with self._http.stream("GET", f"/imports/{import_id}/failed.csv") as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                file.writelines(response.iter_bytes())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def delete_import(self, import_id: str) -> None:
        """Delete an import; companies that it registered stay."""
        self._request("DELETE", f"/imports/{import_id}")

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Send a request; repeat it if it was certainly not carried out.

        Raises:
            Refused: the service refused it.
            Unreachable: there was no response, or not one of this service.
        """
        for number in range(1, MAX_TRIES + 1):
            wait = random.uniform(0.5, 1) * 2.0 ** (number - 1)  # noqa: S311 - not for secrets
            try:
                response = self._http.request(method, path, **options)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent
                if number == MAX_TRIES:
                    raise self._unreachable(error) from error
            except httpx.HTTPError as error:
                if number == MAX_TRIES or method != "GET":
                    raise self._unreachable(error) from error
            else:
                if response.is_success:
                    return _checked(response)
                refusal = _refusal(response)
                wait = max(wait, _retry_after(response))
                is_certain = method == "GET" or refusal.code not in UNCERTAIN
                if response.status_code not in REPEATED or not is_certain or wait > MAX_WAIT_SECONDS:
                    raise refusal
                if number == MAX_TRIES:
                    raise refusal
            self._sleep(wait)
        raise AssertionError

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        host = self._http.base_url.copy_with(userinfo=b"")
        return Unreachable(f"No response from {host}: {str(error) or type(error).__name__}")


def _checked(response: httpx.Response) -> httpx.Response:
    """The response if it is JSON, or has no content.

    Raises:
        Unreachable: it is not.
    """
    try:
        if response.status_code != HTTPStatus.NO_CONTENT:
            response.json()
    except ValueError:
        raise _not_ours(response) from None
    return response


def _refusal(response: httpx.Response) -> Refused:
    """The problem document of a refusal, as one sentence.

    Raises:
        Unreachable: it is not a problem document of this service.
    """
    try:
        problem = response.json()
        sentence = f"{problem['title']}: {problem['detail']}"
        code = str(problem["type"]).rpartition(":")[2]
        errors = [f"  {each['field'] or each['location']}: {each['detail']}" for each in problem.get("errors") or ()]
    except (ValueError, TypeError, KeyError):
        raise _not_ours(response) from None
    return Refused("\n".join([sentence, *errors]), code)


def _not_ours(response: httpx.Response) -> Unreachable:
    text = "".join(letter if letter.isprintable() else " " for letter in response.text[:MAX_SHOWN])
    return Unreachable(f"Status {response.status_code} from another program than this service: {text}")


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0
