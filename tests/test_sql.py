"""SQL is constant text with parameters: nothing that somebody sent ever becomes a part of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import provider_registration

SOURCE = Path(provider_registration.__file__).parent
ASKING = {"text", "execute", "exec_driver_sql", "fetch", "fetchrow", "fetchval", "scalar", "scalars", "stream"}
# Statements that take no parameters in PostgreSQL; the role's name was quoted by PostgreSQL itself.
MADE_OF_PARTS = {("grants.py", "text")}


def names_of(call):
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name


def is_made_of_parts(node):
    """Whether an expression puts a string together: an f-string with a value in it, +, %, format, join, replace."""
    match node:
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(left=ast.Name(id=left), right=ast.Name(id=right)):  # two constants of the module, with names
            return not (left.isupper() and right.isupper())
        case ast.BinOp():
            return True
        case ast.Call():
            return names_of(node) in {"format", "format_map", "join", "replace", "str"}
    return False


def statements_made_of_parts(tree):
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and names_of(call) in ASKING and call.args and is_made_of_parts(call.args[0]):
            yield names_of(call)


def test_no_statement_is_put_together():
    found = {
        (str(path.relative_to(SOURCE)), name)
        for path in SOURCE.rglob("*.py")
        for name in statements_made_of_parts(ast.parse(path.read_text()))
    }

    assert found == MADE_OF_PARTS


@pytest.mark.parametrize("room", ["auth", "candidates"])
def test_every_statement_of_a_room_stands_in_its_queries(room):
    calls = {
        path.name
        for path in (SOURCE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and names_of(node) == "text"
    }

    assert calls == {"queries.py"}


@pytest.mark.parametrize(
    "code",
    [
        'text(f"SELECT {x}")',
        'session.execute("SELECT " + x)',
        'connection.fetch("SELECT %s" % x)',
        'text("SELECT {}".format(x))',
        'text(" ".join(parts))',
        "text(SELECT + name)",
    ],
)
def test_a_statement_put_together_would_be_found(code):
    assert list(statements_made_of_parts(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ['text("SELECT 1")', 'text(f"SELECT 1")', "text(_PAGE + _RECORDS)", "session.execute(queries.FIND, values)"]
)
def test_a_constant_is_no_such_thing(code):
    assert not list(statements_made_of_parts(ast.parse(code)))
