"""What a document would cost, from its syntax alone: nothing is read from the database before.

Each field costs 1, times the maximum rows of the lists around it; fields that run statements cost more. A fragment is
measured once, however often it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    Lexer,
    OperationDefinitionNode,
    SelectionSetNode,
    Source,
    TokenKind,
    TypeNameMetaFieldDef,
    ValueNode,
    VariableNode,
    get_named_type,
    parse,
    value_from_ast_untyped,
)
from graphql.type import SchemaMetaFieldDef, TypeMetaFieldDef

from provider_registration.graphql_api.errors import GraphQLLimitExceeded
from provider_registration.similar.service import MAX_SIMILAR
from provider_registration.statistics.models import Interval
from provider_registration.statistics.schemas import DEFAULT_DAYS
from provider_registration.statistics.service import MAX_GROUPS
from provider_registration.web.pagination import DEFAULT_LIMIT, MAX_LIMIT

MAX_TOKENS = 500
MAX_COMMENTS = 100
MAX_DEPTH = 8  # fields inside fields
MAX_NESTING = 32  # brackets of any kind
MAX_ALIASES = 30
MAX_COST = 20_000  # about 0.1 s of CPU time
COST_OF_A_REQUEST = 1_000  # counts as another request against the caller's rate limit

STATEMENT = 100  # what a statement costs, in fields
SIMILAR = 1_000  # finding similar companies also compares hundreds of names
STATISTICS = 1_000
INTROSPECTION = 1_000  # its depth is limited by a rule of the library
META_FIELDS = {"__schema": SchemaMetaFieldDef, "__type": TypeMetaFieldDef, "__typename": TypeNameMetaFieldDef}
DAYS_IN = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 28}

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a part of a document, with its fragments."""

    depth: int = 0
    aliases: int = 0
    cost: int = 0

    def beside(self, other: Size) -> Size:
        """The size of two parts beside each other."""
        return Size(max(self.depth, other.depth), self.aliases + other.aliases, self.cost + other.cost)


def parse_bounded(text: str) -> DocumentNode:
    """Parse a document.

    Raises:
        GraphQLSyntaxError: it is not GraphQL.
        GraphQLLimitExceeded: it has too many tokens or comments, or is nested too deeply.
    """
    if text.count("#") > MAX_COMMENTS:  # not tokens, but as slow to read
        raise GraphQLLimitExceeded("comments", MAX_COMMENTS)
    lexer = Lexer(Source(text))
    nesting = 0
    for _ in range(MAX_TOKENS + 1):
        match lexer.advance().kind:
            case TokenKind.EOF:
                return parse(text)
            case TokenKind.BRACE_L | TokenKind.BRACKET_L | TokenKind.PAREN_L:
                nesting += 1
            case TokenKind.BRACE_R | TokenKind.BRACKET_R | TokenKind.PAREN_R:
                nesting -= 1
        if nesting > MAX_NESTING:  # parsing and validating it would be recursive
            raise GraphQLLimitExceeded("levels", MAX_DEPTH)
    raise GraphQLLimitExceeded("tokens", MAX_TOKENS)


def check_size(schema: GraphQLSchema, document: DocumentNode, variables: Arguments) -> int:
    """The cost of the most expensive operation of a document.

    Raises:
        GraphQLLimitExceeded: the document is too deep, or has too many aliases, or costs too much.
    """
    try:
        size = _Measure(schema, document, variables).largest()
    except RecursionError:  # hundreds of fragments in each other
        raise GraphQLLimitExceeded("levels", MAX_DEPTH) from None
    if size.depth > MAX_DEPTH:
        raise GraphQLLimitExceeded("levels", MAX_DEPTH)
    if size.aliases > MAX_ALIASES:
        raise GraphQLLimitExceeded("aliases", MAX_ALIASES)
    if size.cost > MAX_COST:
        raise GraphQLLimitExceeded("points of cost", MAX_COST)
    return size.cost


class _Measure:
    """Measures the operations of one document."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Arguments) -> None:
        self._schema = schema
        self._variables = dict(variables)
        self._operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._measured: dict[str, Size] = {}  # by the name of the fragment; nothing while it is being measured

    def largest(self) -> Size:
        """The largest depth, aliases and cost of an operation. Validation refuses fragments that none uses."""
        sizes = [self._operation(each) for each in self._operations]
        return Size(
            max((size.depth for size in sizes), default=0),
            max((size.aliases for size in sizes), default=0),
            max((size.cost for size in sizes), default=0),
        )

    def _operation(self, operation: OperationDefinitionNode) -> Size:
        defaults = {
            each.variable.name.value: self._value(each.default_value)
            for each in operation.variable_definitions or ()
            if each.default_value
        }
        given, self._variables = self._variables, {**defaults, **self._variables}
        self._measured.clear()  # they may use the variables
        size = self._selections(operation.selection_set, self._schema.get_root_type(operation.operation))
        self._variables = given
        return size

    def _fragment(self, name: str) -> Size:
        fragment = self._fragments.get(name)
        if fragment is None:  # validation refuses it
            return Size()
        if name not in self._measured:
            self._measured[name] = Size()  # of a fragment in itself, which validation refuses
            parent = self._schema.get_type(fragment.type_condition.name.value)
            self._measured[name] = self._selections(fragment.selection_set, parent)
        return self._measured[name]

    def _selections(self, selections: SelectionSetNode, parent: object) -> Size:
        size = Size()
        for node in selections.selections:
            match node:
                case FieldNode():
                    size = size.beside(self._field(node, parent))
                case FragmentSpreadNode():
                    size = size.beside(self._fragment(node.name.value))
                case InlineFragmentNode():
                    condition = node.type_condition
                    kind = self._schema.get_type(condition.name.value) if condition else parent
                    size = size.beside(self._selections(node.selection_set, kind))
        return size

    def _field(self, node: FieldNode, parent: object) -> Size:
        name = node.name.value
        inside = Size()
        if node.selection_set:
            inside = self._selections(node.selection_set, _type_of(name, parent))
        own, rows = self._price(parent, name, node)
        is_introspection = name in ("__schema", "__type")
        return Size(
            depth=1 + (0 if is_introspection else inside.depth),
            aliases=(node.alias is not None) + inside.aliases,
            cost=1 + own + rows * inside.cost,
        )

    def _price(self, parent: object, name: str, node: FieldNode) -> tuple[int, int]:
        """What the field costs beside 1, and how often what is inside it counts."""
        arguments = {each.name.value: self._value(each.value) for each in node.arguments or ()}
        own, rows = 0, 1
        match (getattr(parent, "name", None), name):
            case ("Query", "candidates" | "approvals"):
                own, rows = 2 * STATEMENT, _limit(arguments)
            case ("Query", "candidate"):
                own = STATEMENT
            case ("Query", "statistics"):
                own, rows = STATISTICS, _buckets(arguments)
            case ("Candidate", "events"):
                rows = _limit(arguments)
            case ("Candidate", "similar"):
                own, rows = SIMILAR, MAX_SIMILAR
            case (_, "__schema" | "__type"):
                own = INTROSPECTION
        return own, rows

    def _value(self, node: ValueNode) -> object:
        """The value of an argument, as far as it counts; None if it has none, or a wrong one."""
        if isinstance(node, VariableNode):
            return self._variables.get(node.name.value)
        try:
            return value_from_ast_untyped(node, self._variables)
        except ValueError:  # an integer with thousands of digits
            return None


def _type_of(name: str, parent: object) -> object:
    """The type of a field; None if there is no such field, which validation refuses."""
    if name in META_FIELDS:
        return get_named_type(META_FIELDS[name].type)
    if isinstance(parent, GraphQLObjectType) and name in parent.fields:
        return get_named_type(parent.fields[name].type)
    return None


def _limit(arguments: Arguments) -> int:
    """The maximum rows of a list; of a wrong limit, which its field refuses, the largest."""
    limit = arguments.get("limit", DEFAULT_LIMIT)
    if limit is None:
        return DEFAULT_LIMIT
    return limit if type(limit) is int and 1 <= limit <= MAX_LIMIT else MAX_LIMIT


def _buckets(arguments: Arguments) -> int:
    """The maximum buckets of statistics, in all groups."""
    interval = Interval.DAY
    days = DEFAULT_DAYS
    try:
        interval = Interval(arguments.get("interval") or interval)
        last = date.fromisoformat(arguments["to"]) if arguments.get("to") else date.max
        if arguments.get("from"):
            first = date.fromisoformat(arguments["from"])
            days = (last - first).days + 1 if last < date.max else interval.max_days
    except (TypeError, ValueError):  # the field refuses it
        days = interval.max_days
    groups = MAX_GROUPS + 2 if arguments.get("by") else 1  # people, others and the service
    return groups * (min(max(days, 1), interval.max_days) // DAYS_IN[interval] + 2)
