"""Compares two OpenAPI documents: `python -m tests.clients.changes` exits with 1 if the newer one breaks clients.

What breaks a client is what the compatibility policy of API.md promises not to do. A request may be allowed more, and a
response may contain more; the opposite breaks. Values may be added to enumerations of responses, as the policy says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.clients.document import DOCUMENT, RELEASED, contract

SMALLEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")  # the smaller, the stricter
LARGEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
ALTERNATIVES = frozenset({"anyOf", "oneOf"})
EXACT = ("format", "pattern", "const", "uniqueItems", "additionalProperties")


@dataclass(frozen=True)
class Change:
    """A difference, where it is, and whether it breaks clients."""

    where: str
    what: str
    breaks: bool = True

    def __str__(self) -> str:
        return f"{'breaking' if self.breaks else 'compatible'}: {self.where}: {self.what}"


class Comparison:
    """The changes from one document to another."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old, self._new = contract(old), contract(new)

    def changes(self) -> Iterator[Change]:
        """All changes of paths, operations, parameters, bodies, responses and security."""
        olds, news = _operations(self._old), _operations(self._new)
        yield from (Change(name, "removed") for name in olds.keys() - news.keys())
        yield from (Change(name, "added", breaks=False) for name in news.keys() - olds.keys())
        for name in olds.keys() & news.keys():
            yield from self._operation(name, olds[name], news[name])

    def _operation(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        if old.get("operationId") != new.get("operationId"):
            yield Change(name, "has another operationId, which is the name in generated clients")
        if old.get("security") != new.get("security"):
            ways = [json.dumps(way, sort_keys=True) for way in new.get("security", [])]
            kept = all(json.dumps(way, sort_keys=True) in ways for way in old.get("security", [])) and old["security"]
            yield Change(name, "has another security", breaks=not (kept or not ways))
        yield from self._parameters(name, _parameters(old), _parameters(new))
        yield from self._body(name, old.get("requestBody"), new.get("requestBody"))
        yield from self._responses(name, old["responses"], new["responses"])

    def _parameters(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        yield from (Change(f"{name} {key}", "parameter removed") for key in old.keys() - new.keys())
        for key in new.keys() - old.keys():
            yield Change(f"{name} {key}", "parameter added", breaks=new[key].get("required", False))
        for key in old.keys() & new.keys():
            where = f"{name} {key}"
            if new[key].get("required", False) and not old[key].get("required", False):
                yield Change(where, "became required")
            yield from self._schema(where, old[key]["schema"], new[key]["schema"], is_sent=True)

    def _body(self, name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> Iterator[Change]:
        where = f"{name} body"
        if old is None or new is None:
            if old != new:
                yield Change(where, "added or removed", breaks=old is not None or bool(new and new.get("required")))
            return
        if new.get("required", False) and not old.get("required", False):
            yield Change(where, "became required")
        yield from self._content(where, old["content"], new["content"], is_sent=True)

    def _responses(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
        for status in old.keys() - new.keys():
            yield Change(f"{name} {status}", "response removed", breaks=status.startswith("2"))
        for status in new.keys() - old.keys():
            added_success = status.startswith("2") and any(one.startswith("2") for one in old)
            yield Change(f"{name} {status}", "response added", breaks=added_success)
        for status in old.keys() & new.keys():
            where = f"{name} {status}"
            headers, now = old[status].get("headers", {}), new[status].get("headers", {})
            yield from (Change(where, f"header {key} removed") for key in headers.keys() - now.keys())
            yield from self._content(where, old[status].get("content", {}), new[status].get("content", {}))

    def _content(
        self, where: str, old: dict[str, Any], new: dict[str, Any], *, is_sent: bool = False
    ) -> Iterator[Change]:
        yield from (Change(where, f"{kind} removed") for kind in old.keys() - new.keys())
        yield from (Change(where, f"{kind} added", breaks=not is_sent) for kind in new.keys() - old.keys())
        for kind in old.keys() & new.keys():
            yield from self._schema(where, old[kind].get("schema", {}), new[kind].get("schema", {}), is_sent=is_sent)

    def _schema(
        self,
        where: str,
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        is_sent: bool = False,
        inside: tuple[str, ...] = (),
    ) -> Iterator[Change]:
        """Changes of a schema that clients send, or that they receive."""
        names = (old.get("$ref", ""), new.get("$ref", ""))
        if names[0] and names[0] == names[1] and names[0] in inside:
            return  # it contains itself
        inside = (*inside, *names)
        old, new = self._resolved(old, self._old), self._resolved(new, self._new)
        yield from self._kinds(where, old, new, is_sent=is_sent, inside=inside)
        if ALTERNATIVES & (old.keys() | new.keys()):
            return
        yield from _limits(where, old, new, is_sent=is_sent)
        before, after = old.get("properties", {}), new.get("properties", {})
        required_before, required_after = set(old.get("required", [])), set(new.get("required", []))
        for name in before.keys() - after.keys():
            yield Change(f"{where}.{name}", "property removed")
        for name in after.keys() - before.keys():
            yield Change(f"{where}.{name}", "property added", breaks=is_sent and name in required_after)
        for name in before.keys() & after.keys():
            here = f"{where}.{name}"
            if (name in required_after) != (name in required_before):
                became = name in required_after
                yield Change(here, "became required" if became else "became optional", breaks=became == is_sent)
            yield from self._schema(here, before[name], after[name], is_sent=is_sent, inside=inside)
        if "items" in old and "items" in new:
            yield from self._schema(f"{where}[]", old["items"], new["items"], is_sent=is_sent, inside=inside)

    def _kinds(
        self, where: str, old: dict[str, Any], new: dict[str, Any], *, is_sent: bool, inside: tuple[str, ...]
    ) -> Iterator[Change]:
        """Changes of the type, or of the types of alternatives."""
        olds, news = self._alternatives(old, self._old), self._alternatives(new, self._new)
        removed, added = olds.keys() - news.keys(), news.keys() - olds.keys()
        if removed:
            yield Change(where, f"no longer {' or '.join(sorted(removed))}", breaks=is_sent or bool(added))
        if added:
            yield Change(where, f"also {' or '.join(sorted(added))}", breaks=not is_sent)
        if ALTERNATIVES & (old.keys() | new.keys()):  # otherwise the caller compares them
            for kind in olds.keys() & news.keys():
                yield from self._schema(where, olds[kind], news[kind], is_sent=is_sent, inside=inside)

    def _alternatives(self, schema: dict[str, Any], document: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for one in schema.get("anyOf") or schema.get("oneOf") or [schema]:
            resolved = self._resolved(one, document)
            kind = str(resolved.get("type", "any"))
            enums = [*found.get(kind, {}).get("enum", []), *resolved.get("enum", [])]
            found[kind] = {**resolved, "enum": enums} if enums else resolved
        return found

    @staticmethod
    def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").removeprefix("#/components/schemas/")
        return {**document["components"]["schemas"][name], **schema} if name else schema


def _limits(where: str, old: dict[str, Any], new: dict[str, Any], *, is_sent: bool) -> Iterator[Change]:
    """Changes of what values are allowed. Received values have no limits to keep."""
    before, after = set(map(str, old.get("enum", []))), set(map(str, new.get("enum", [])))
    if removed := before - after:
        yield Change(where, f"value {', '.join(sorted(removed))} removed", breaks=is_sent and bool(after))
    if added := after - before:
        yield Change(where, f"value {', '.join(sorted(added))} added", breaks=is_sent and not before)
    if not is_sent:
        return
    for key in (*SMALLEST, *LARGEST, *EXACT):
        if old.get(key) == new.get(key):
            continue
        loosened = key not in new or (
            key in old and key not in EXACT and (new[key] > old[key] if key in SMALLEST else new[key] < old[key])
        )
        yield Change(where, f"{key} is now {new.get(key)}, was {old.get(key)}", breaks=not loosened)


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _parameters(operation: dict[str, Any]) -> dict[str, Any]:
    return {f"{one['in']} {one['name']}": one for one in operation.get("parameters", [])}


def main() -> None:
    changes = list(Comparison(json.loads(RELEASED.read_text()), json.loads(DOCUMENT.read_text())).changes())
    for change in sorted(map(str, changes)):
        print(change)  # noqa: T201 - its output
    sys.exit(any(change.breaks for change in changes))


if __name__ == "__main__":
    main()
