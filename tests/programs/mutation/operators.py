"""Small changes of the source, Python and SQL, that imitate mistakes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

SILENT = {"logger", "logging", "_logger", "_log", "reach"}
MADE_TENFOLD_ABOVE = 10  # tests need not notice one second or byte more of many
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
NEGATIONS = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
NOT_LOOKED_INTO = {"annotation", "returns", "decorator_list", "bases"}

SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|WHERE|JOIN|CASE|AND|ORDER BY|LIKE)\b|= :\w|@> ")
# A condition, up to the next one or the end of the clause.
_CONDITION = (
    r"(?:[^()\n\"]|\([^()]*(?:\([^()]*\)[^()]*)*\))+?"
    r"(?=\n|\"|\)|$| (?:AND|OR|ORDER BY|FOR|RETURNING|LIMIT|THEN|AS)\b)"
)
_NO_MOMENT = r"(?! *(?:now|clock_timestamp|statement_timestamp)\(\))"  # equal to the microsecond never happens
SQL_CHANGES = [
    (re.compile(pattern, re.MULTILINE), new)
    for pattern, new in (
        (r"\bAND\b", "OR"),
        (r"\bOR\b", "AND"),
        (r"\s+\b(?:AND|OR) " + _CONDITION, ""),
        (r"(?<=\bWHERE )" + _CONDITION, "true"),
        (r"(?<![<>=-])<(?![=>])" + _NO_MOMENT, "<="),
        (r"<=" + _NO_MOMENT, "<"),
        (r"(?<![<>=-])>(?![=>])" + _NO_MOMENT, ">="),
        (r">=" + _NO_MOMENT, ">"),
        (r"(?<= )=(?= )", "<>"),
        (r"<>", "="),
        (r"\bIS NOT (?=NULL|DISTINCT)", "IS "),
        (r"\bIS (?=NULL|DISTINCT)", "IS NOT "),
        (r"(?<!IS )\bNOT (?!NULL|MATERIALIZED)", ""),
        (r"\bASC\b", "DESC"),
        (r"\bDESC\b", "ASC"),
        (r"(ORDER BY [\w.]+)(?![\w.(])(?! DESC| ASC)", r"\1 DESC"),
        (r"\s+\bFOR (?:NO KEY UPDATE|UPDATE|SHARE)(?: OF \w+(?:, \w+)*)?(?: SKIP LOCKED| NOWAIT)?", ""),
        (r" (?:SKIP LOCKED|NOWAIT)\b", ""),
        (r"\+ 1\b", "+ 0"),
        (r"\bLIMIT 1\b", "LIMIT 2"),
        (r"\b(coalesce|least)\(([^(),]+(?:\([^()]*\))?), ([^(),]+(?:\([^()]*\))?)\)", r"\1(\3, \2)"),
        (r"\bNULLS LAST\b", "NULLS FIRST"),
        (r"\bUNION ALL\b", "EXCEPT"),
        (r"\bLEFT JOIN\b", "JOIN"),
        (r"\bDISTINCT (?!FROM)", ""),
        (r"\s+\bON CONFLICT DO NOTHING\b", ""),
        (r"\bmin\(", "max("),
        (r"\bmax\(", "min("),
        (r"\btrue\b", "false"),
        (r"\bfalse\b", "true"),
    )
]
BETWEEN = re.compile(r"(?s)\bBETWEEN\b.*?\bAND\b")
ASSIGNS = re.compile(r"\bSET [^\n]*$|,\s*\w+ $")  # the text before an = that assigns, in an UPDATE


@dataclass(frozen=True, slots=True)
class Change:
    """The bytes from `start` to `end` become `new`, within a function, a class or a name of the module."""

    start: int
    end: int
    new: str
    owner: str
    lines: range  # of the statement, or of the head of one that has a body


def changes(source: str) -> Iterator[Change]:
    """Every single change of a module."""
    yield from _Walk(source).changes


class _Walk(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self._source = source.encode()
        self._begins = [0]
        for line in self._source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))
        self._owner: list[str] = []
        self._lines = range(0)
        self.changes: list[Change] = []
        self.visit(ast.parse(source))

    def visit(self, node: ast.AST) -> None:
        if _is_left_alone(node):
            return
        before, owners = self._lines, len(self._owner)
        self._lines = _lines_of(node) or before
        if name := _name_of(node, inside=bool(self._owner)):
            self._owner.append(name)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            self._change_sql(node)
        else:
            for target, new in _replacements(node, in_init=self._owner[-1:] == ["__init__"]):
                self._add(*self._span(target), new)
            for field, value in ast.iter_fields(node):
                if field not in NOT_LOOKED_INTO:
                    for child in value if isinstance(value, list) else [value]:
                        if isinstance(child, ast.AST):
                            self.visit(child)
        self._lines = before
        del self._owner[owners:]

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return (
            self._begins[node.lineno - 1] + node.col_offset,
            self._begins[node.end_lineno - 1] + node.end_col_offset,
        )

    def _add(self, start: int, end: int, new: str) -> None:
        self.changes.append(Change(start, end, new, ".".join(self._owner), self._lines))

    def _change_sql(self, node: ast.expr) -> None:
        start, end = self._span(node)
        text = self._source[start:end].decode()
        if not SQL.search(text):
            return
        ranges = [between.span() for between in BETWEEN.finditer(text)]
        for pattern, new in SQL_CHANGES:
            for found in pattern.finditer(text):
                if found[0] == "=" and ASSIGNS.search(text[: found.start()]):
                    continue
                if any(begin < found.end() and found.start() < end for begin, end in ranges):
                    continue
                before = start + len(text[: found.start()].encode())
                self._add(before, before + len(found[0].encode()), found.expand(new))


def _lines_of(node: ast.AST) -> range | None:
    """The lines of a statement or, if it has a body, of its head."""
    if isinstance(node, ast.match_case):
        return range(node.pattern.lineno, node.body[0].lineno)
    if isinstance(node, ast.stmt | ast.ExceptHandler):
        body = getattr(node, "body", None)
        return range(node.lineno, max(node.lineno, body[0].lineno - 1 if body else node.end_lineno) + 1)
    return None


def _name_of(node: ast.AST, *, inside: bool) -> str | None:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if not inside:
            return name
        case _:
            return None


def _is_left_alone(node: ast.AST) -> bool:
    """Docstrings and examples, log calls, failpoints, code for type checkers only, and unreachable code."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.Expr(value=ast.Await(value=ast.Call(func=called)) | ast.Call(func=called)):
            return not SILENT.isdisjoint(re.findall(r"\w+", ast.unparse(called)))
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case (
            ast.Assign(targets=[ast.Name(id=name)])
            | ast.AnnAssign(target=ast.Name(id=name))
            | ast.keyword(arg=str(name))
        ):
            return name.lower().startswith("example")
        case ast.Raise(exc=ast.Call(func=ast.Name(id="AssertionError"))):
            return True
        case _:
            return False


def _replacements(node: ast.AST, *, in_init: bool) -> Iterator[tuple[ast.expr | ast.stmt, str]]:  # noqa: C901, PLR0912 - a table
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right) if type(op) in COMPARISONS:
            yield node, f"({ast.unparse(ast.Compare(left, [COMPARISONS[type(op)]()], right))})"
        case ast.BoolOp(op=op, values=values):
            yield node, f"({ast.unparse(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))})"
            for dropped in values:
                yield node, f"({ast.unparse(ast.BoolOp(op, [value for value in values if value is not dropped]))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, str(value * 10 if value > MADE_TENFOLD_ABOVE else value + 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC and not _is_text(left, right):
            yield node, f"({ast.unparse(ast.BinOp(left, ARITHMETIC[type(op)](), right))})"
        case ast.AugAssign(target=target, op=ast.Add() | ast.Sub() as op, value=value):
            yield node, ast.unparse(ast.AugAssign(target, ARITHMETIC[type(op)](), value))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield node, "return None"
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield node, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) if not in_init:
            yield node, "pass"
        case ast.Break():
            yield node, "continue"
        case ast.Continue():
            yield node, "break"
        case ast.For(iter=iterated):
            yield iterated, "()"
        case ast.ExceptHandler(type=ast.expr() as caught):
            yield caught, "()"
    tests = (
        node.ifs if isinstance(node, ast.comprehension) else [getattr(node, "test", None), getattr(node, "guard", None)]
    )
    for test in tests:
        if isinstance(test, ast.expr) and not _is_negated_elsewhere(test):
            yield test, f"(not ({ast.unparse(test)}))"


def _is_negated_elsewhere(test: ast.expr) -> bool:
    match test:
        case ast.Compare(ops=[op]):
            return isinstance(op, NEGATIONS)
        case ast.UnaryOp(op=ast.Not()) | ast.Constant():
            return True
        case _:
            return False


def _is_text(*operands: ast.expr) -> bool:
    return any(
        isinstance(one, ast.JoinedStr | ast.Constant) and not isinstance(getattr(one, "value", ""), int | float)
        for one in operands
    )
