"""Which fields there are to search, and what each may be compared with: clauses to checked terms."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from runstream_sink.query.search.grammar import Clause, Name, parse_filter, parse_order
from runstream_sink.query.search.scanner import Scanner
from runstream_sink.store.search_plan import Field, Kind, Order, Term, Value

__all__ = ["LIST", "NULL", "NUMBER", "TEXT", "Rule", "Vocabulary", "filter_terms", "order_keys"]

_MOST_TERMS: Final = 100
_LONGEST_PATTERN: Final = 50_000
"""Bytes of a LIKE pattern that SQLite takes."""
_PATTERNS: Final = frozenset({"LIKE", "ILIKE"})
_LISTS: Final = frozenset({"IN", "NOT IN"})


class Rule(NamedTuple):
    """What a field may be compared by, whether with a number instead of a text, and what may be wrong with a value."""

    comparators: tuple[str, ...]
    number: bool = False
    problem: Callable[[Any], str | None] = lambda _: None


_EQUAL: Final = ("=", "!=")
NUMBER: Final = Rule((*_EQUAL, "<", "<=", ">", ">="), number=True)
TEXT: Final = Rule((*_EQUAL, "LIKE", "ILIKE"))
NULL: Final = Rule((*TEXT.comparators, "IS NULL", "IS NOT NULL"))
LIST: Final = Rule((*TEXT.comparators, "IN", "NOT IN"))


class Vocabulary(NamedTuple):
    """The fields of one kind of search."""

    entities: Mapping[str, Kind]
    """By the words that stand before the dot."""
    free: Mapping[Kind, Rule]
    """For kinds whose keys are anything."""
    fixed: Mapping[Kind, Mapping[str, Rule]]
    """For kinds that have certain keys."""
    aliases: Mapping[str, str]
    """Other names of attributes in filters."""
    orders: Mapping[str, str]
    """By the names that an attribute has in an order, the attribute."""
    order_kinds: frozenset[Kind]
    replaced: Mapping[Field, Field]
    """Fields that are kept as another one."""
    repeats: bool
    """Whether a field may stand in an order again, where it means nothing."""


def filter_terms(text: str, vocabulary: Vocabulary) -> tuple[Term, ...]:
    """The terms of a filter; an empty one has none.  Raises `InvalidInputError`."""
    if not text:
        return ()
    scanner = Scanner(text, "filter")
    clauses = parse_filter(scanner)
    if len(clauses) > _MOST_TERMS:
        scanner.fail(f"there are more than {_MOST_TERMS} comparisons", clauses[_MOST_TERMS].name.at)
    return tuple(_term(scanner, clause, vocabulary) for clause in clauses)


def order_keys(texts: Iterable[str], vocabulary: Vocabulary) -> tuple[Order, ...]:
    """The keys of an order.  Raises `InvalidInputError`."""
    orders: list[Order] = []
    for text in texts:
        scanner = Scanner(text, "order_by")
        name, descending = parse_order(scanner)
        kind = _kind(scanner, name, vocabulary)
        if kind not in vocabulary.order_kinds:
            scanner.fail(f"nothing is ordered by {kind}s; by what is: {', '.join(sorted(vocabulary.order_kinds))}")
        key = name.key
        if kind == "attribute":
            if key not in vocabulary.orders:
                scanner.fail(_unknown(kind, key, vocabulary.orders), name.key_at)
            key = vocabulary.orders[key]
        field = Field(kind, key)
        field = vocabulary.replaced.get(field, field)
        if all(order.field != field for order in orders):
            orders.append(Order(field, descending))
        elif not vocabulary.repeats:
            scanner.fail("this field stands twice in the order", name.at)
    return tuple(orders)


def _term(scanner: Scanner, clause: Clause, vocabulary: Vocabulary) -> Term:
    name = clause.name
    kind = _kind(scanner, name, vocabulary)
    key = vocabulary.aliases.get(name.key, name.key) if kind == "attribute" else name.key
    field = Field(kind, key)
    rule = vocabulary.free.get(kind)
    if rule is None:
        known = vocabulary.fixed[kind]
        if key not in known:
            scanner.fail(_unknown(kind, name.key, (*known, *vocabulary.aliases)), name.key_at)
        rule = known[key]
    if clause.comparator not in rule.comparators:
        allowed = ", ".join(rule.comparators)
        scanner.fail(f"{_shown(field)} is compared by {allowed}, not by {clause.comparator}", clause.comparator_at)
    value = _checked(scanner, clause, rule, field)
    for one in value if isinstance(value, tuple) else (value,):
        if problem := rule.problem(one):
            scanner.fail(problem, clause.value_at)
    return Term(vocabulary.replaced.get(field, field), clause.comparator, value)


def _kind(scanner: Scanner, name: Name, vocabulary: Vocabulary) -> Kind:
    if name.entity is None:
        return "attribute"
    kind = vocabulary.entities.get(name.entity)
    if kind is None:
        known = ", ".join(vocabulary.entities)
        raise scanner.error(
            f"there is nothing called {name.entity!r:.50}; before the dot stands one of {known}", name.at
        )
    return kind


def _checked(scanner: Scanner, clause: Clause, rule: Rule, field: Field) -> Value:
    """The clause's value, if the field may have it."""
    value, at = clause.value, clause.value_at
    wants_list = clause.comparator in _LISTS
    if value is None or (wants_list and isinstance(value, tuple)):
        return value
    if rule.number:
        if not isinstance(value, int | float):
            scanner.fail(f"{_shown(field)} is a number, and is compared with one", at)
        return float(value) if field.kind == "metric" and isinstance(value, int) else value
    if wants_list:
        scanner.fail(f"{clause.comparator} wants a list, such as ('a', 'b')", at)
    if not isinstance(value, str):
        scanner.fail(f"{_shown(field)} is a text, and is compared with one in quotes ('...' or \"...\")", at)
    elif clause.comparator in _PATTERNS and len(value.encode()) > _LONGEST_PATTERN:
        scanner.fail(f"a pattern has at most {_LONGEST_PATTERN} bytes", at)
    return value


def _unknown(kind: str, key: str, known: Iterable[str]) -> str:
    return f"there is no {kind} {key!r:.100}; there are {', '.join(known)}"


def _shown(field: Field) -> str:
    return f"the {field.kind} {field.key!r:.100}"
