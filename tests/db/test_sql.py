"""SQL is constant text with parameters: data from requests never becomes part of it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

import provider_registration
from provider_registration.candidates import list_queries
from provider_registration.candidates.selection import FILTERS, Order

SOURCE = Path(provider_registration.__file__).parent
ASKING = {"text", "execute", "exec_driver_sql", "fetch", "fetchrow", "fetchval", "scalar", "scalars", "stream"}
# Statements that take no parameters in PostgreSQL; the role's name was quoted by PostgreSQL itself, and the indexes are
# constants of migrations.
MADE_OF_PARTS = {("db/grants.py", "text"), ("db/index_builds.py", "execute"), ("db/statements.py", "text")}


def names_of(call):
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name


def is_made_of_parts(node):
    """Whether an expression builds a string: an f-string with a value in it, +, %, format, join, replace."""
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


@pytest.mark.asvs("V1.2.4")
def test_no_statement_is_put_together():
    found = {
        (str(path.relative_to(SOURCE)), name)
        for path in SOURCE.rglob("*.py")
        for name in statements_made_of_parts(ast.parse(path.read_text()))
    }

    assert found == MADE_OF_PARTS


@pytest.mark.parametrize(
    ("room", "files"), [("auth", {"queries.py"}), ("candidates", {"queries.py", "list_queries.py"})]
)
def test_every_statement_of_a_package_is_in_its_queries_module(room, files):
    calls = {
        path.name
        for path in (SOURCE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and names_of(node) in {"text", "statement"} and node.args
    }

    assert calls == files


def test_statements_of_parts_are_made_while_their_modules_are_imported():
    made = {
        (str(path.relative_to(SOURCE)), function.name)
        for path in SOURCE.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "statement"
    }

    assert made == {("activity/queries.py", "_page"), ("candidates/list_queries.py", "list_statement")}


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
def test_a_constant_is_not_reported(code):
    assert not list(statements_made_of_parts(ast.parse(code)))


def statements():
    """Every statement of a package, as PostgreSQL receives it."""
    for path in sorted(SOURCE.rglob("queries.py")):
        module = importlib.import_module(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
        for name, found in vars(module).items():
            for one in found.values() if isinstance(found, dict) else [found]:
                if isinstance(one, TextClause):
                    yield f"{module.__name__}.{name}", str(one.compile(dialect=PGDialect_asyncpg()))
    for template in list_queries.TEMPLATES:
        for order in Order:
            one = list_queries.list_statement(
                template, frozenset(FILTERS), (), order, total_of(template), has_offset=True
            )
            yield f"{template}.{order}", str(one.compile(dialect=PGDialect_asyncpg()))


def total_of(template):
    return "matched" if template[0] == "matched" else "counts"


async def test_a_column_that_a_later_release_adds_changes_no_result(migrated_database_url):
    connection = await asyncpg.connect(migrated_database_url)
    transaction = connection.transaction()
    await transaction.start()

    async def results():
        return [
            (name, [column.name for column in (await connection.prepare(sql)).get_attributes()])
            for name, sql in statements()
        ]

    before = await results()
    for table in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        await connection.execute(f"ALTER TABLE {table['tablename']} ADD COLUMN of_a_later_release text")

    assert await results() == before
    assert len(before) > 50
    await transaction.rollback()
    await connection.close()
