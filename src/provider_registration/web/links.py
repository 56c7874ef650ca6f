"""The Link header of lists."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel


def page_links(request: Request, path: str, query: BaseModel, next_cursor: str | None) -> dict[str, str]:
    """The Link header (RFC 8288) with the first and the next page of the same list at `path`."""
    same = query.model_dump(
        mode="json", by_alias=True, exclude={"cursor", "offset", "page"}, exclude_none=True, exclude_defaults=True
    )
    targets = {"first": same} | ({"next": {**same, "cursor": next_cursor}} if next_cursor else {})
    prefix = request.scope.get("root_path", "")
    return {
        "Link": ", ".join(
            f'<{prefix}{path}{"?" if parameters else ""}{urlencode(parameters)}>; rel="{relation}"'
            for relation, parameters in targets.items()
        )
    }
