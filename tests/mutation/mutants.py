"""Mutants of a module: its source with one small mistake each.

Kinds: a comparison's edge or direction, an arithmetic or bit operator, ``and`` and ``or``, a negated or turned-round
condition, a number that is one larger, a text that is another, True and False, a returned value that is None, a
statement that is left out, ``break`` and ``continue``.  Docstrings, annotations, ``__all__``, decorators, and the texts
of errors are left as they are: what they say is for people.
"""

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Mutant", "mutants"]

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Mutant(NamedTuple):
    """One changed module."""

    line: int
    what: str
    tree: ast.Module


class _Place(NamedTuple):
    """Where a node hangs."""

    parent: ast.AST
    field: str
    index: int | None

    @property
    def node(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its source."""
    tree = ast.parse(path.read_bytes())
    for number, place in enumerate(_places(tree)):
        for turn, changed in enumerate(_changes(place.node)):
            twin = copy.deepcopy(tree)
            other = list(_places(twin))[number]
            replacement = list(_changes(other.node))[turn]
            other.put(replacement)
            yield Mutant(
                getattr(place.node, "lineno", 0),
                f"{_text(place.node)}  ->  {_text(changed)}",
                ast.fix_missing_locations(twin),
            )


def _places(node: ast.AST) -> Iterator[_Place]:
    """Every node that may be changed, parents first."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield _Place(node, field, index)
                yield from _places(child)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Raise():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name.endswith(("Error", "TypeVar"))
        case ast.Assign(targets=[ast.Name(id=name)]) if name[0].isupper() and isinstance(node.value, ast.Subscript):
            return True  # an alias of a type
        case _:
            return False


def _changes(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901, PLR0912 - a table of cases
    match node:
        case ast.Compare(left=left, ops=[first, *rest], comparators=comparators):
            for at, op in enumerate([first, *rest]):
                ops: list[ast.cmpop] = [first, *rest]
                ops[at] = _COMPARISONS[type(op)]()
                yield ast.Compare(left, ops, comparators)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(op)](), right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str() as value):
            yield ast.Constant(f"{value}~")
        case ast.Constant(value=bytes() as value):
            yield ast.Constant(value + b"~")
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr() | ast.AugAssign():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def _text(node: ast.AST) -> str:
    line, _, more = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).partition("\n")
    return line[:100] + (" ..." if more else "")
