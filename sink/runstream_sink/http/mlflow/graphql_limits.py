"""What one GraphQL query may have; checked before it is validated, which may take long for a short query."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from runstream_sink.http.mlflow.errors import invalid

__all__ = ["LIMITS", "Limits", "check_length", "check_limits"]


class Limits(NamedTuple):
    """The most of each; all but the length are those of MLflow's server."""

    length: int = 20_000
    """Characters."""
    depth: int = 10
    selections: int = 1000
    """Fields and fragments; those of fragments count as often as these are used."""
    root_fields: int = 10
    aliases: int = 10
    """Of the fields of one object."""


LIMITS: Final = Limits()


class _TooMuchError(Exception):
    """A limit is exceeded."""


def check_length(query: str) -> None:
    """Raise `MlflowError` for a query that is not even parsed."""
    if len(query) > LIMITS.length:
        raise invalid(f"the query has {len(query)} characters; at most {LIMITS.length} are taken")


def check_limits(document: DocumentNode) -> str:
    """What a query has too much of; empty if nothing."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    counting = _Counting(fragments)
    try:
        for node in (*fragments.values(), *operations):
            counting.walk(node.selection_set, 1, root=isinstance(node, OperationDefinitionNode))
    except _TooMuchError as error:
        return str(error)
    return ""


class _Counting:
    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._selections = 0
        self._root_fields = 0

    def walk(self, selected: SelectionSetNode, depth: int, *, root: bool = False) -> None:
        """Count what is selected of one object, and below.  Raises `_TooMuchError`."""
        _check(depth, LIMITS.depth, "levels")
        fields = self._fields(selected)
        _check(sum(field.alias is not None for field in fields), LIMITS.aliases, "aliases")
        if root:
            self._root_fields += len(fields)
            _check(self._root_fields, LIMITS.root_fields, "root fields")
        for field in fields:
            if field.selection_set is not None:
                self.walk(field.selection_set, depth + 1)

    def _fields(self, selected: SelectionSetNode) -> list[FieldNode]:
        """The fields of one object, those of its fragments too; each fragment once, so that none goes in circles."""
        fields: list[FieldNode] = []
        used: set[str] = set()
        waiting = list(selected.selections)
        while waiting:
            node = waiting.pop()
            self._selections += 1
            _check(self._selections, LIMITS.selections, "selections")
            if isinstance(node, FieldNode):
                fields.append(node)
            elif isinstance(node, InlineFragmentNode):
                waiting += node.selection_set.selections
            elif isinstance(node, FragmentSpreadNode) and node.name.value in self._fragments.keys() - used:
                used.add(node.name.value)
                waiting += self._fragments[node.name.value].selection_set.selections
        return fields


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise _TooMuchError(f"the query has more than {most} {what}; ask for less at once")
