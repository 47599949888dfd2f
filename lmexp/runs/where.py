"""Conditions on runs: `model.name == "lstm" and val/bits_per_byte < 2`.

The language is Python's for comparisons, `and`, `or`, `not` and `in`; a name is a key of a config, of run.json or of a
metric. It is read, never executed: only the nodes handled here mean anything.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Protocol

from lmexp.errors import RunError


class Row(Protocol):
    """A run, or a dictionary, that is asked for its keys."""

    def get(self, key: str, /) -> Any: ...


Condition = Callable[[Row], bool]

WORDS = {"null": None, "none": None, "None": None, "true": True, "false": False}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, container: value in container,
    ast.NotIn: lambda value, container: value not in container,
}


def parse_where(text: str) -> tuple[Condition, set[str]]:
    """Return what a condition says of a row, and the keys it names.

    A key that a row lacks is null; null is neither smaller nor larger than anything.

    Raises:
        RunError: the text is no condition; shows where.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise RunError(f"--where: not a condition{place}: {text}\n{_EXAMPLE}") from None
    try:
        return _condition(tree.body), set(_keys(tree.body))
    except RecursionError:
        raise RunError("--where: the condition is nested too deeply") from None


def look_up(row: Row, key: str) -> Any:
    """Return the value of a key; a group stands for its option: model is model.name."""
    value = row.get(key)
    return row.get(f"{key}.name") if value is None else value


def require_known(keys: set[str], known: set[str]) -> None:
    """Raise when no run has a key, with the nearest name.

    Raises:
        RunError: names the key.
    """
    for key in sorted(keys):
        if key not in known and f"{key}.name" not in known:
            near = get_close_matches(key, sorted(known), 1)
            raise RunError(f"no run has the key '{key}'" + (f"; did you mean {near[0]}?" if near else ""))


_EXAMPLE = """write it as --where 'model.name == "lstm" and val/bits_per_byte < 2'"""


def _condition(node: ast.expr) -> Condition:
    if isinstance(node, ast.BoolOp):
        parts = [_condition(part) for part in node.values]
        join = all if isinstance(node.op, ast.And) else any
        return lambda row: join(part(row) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _condition(node.operand)
        return lambda row: not inner(row)
    if isinstance(node, ast.Compare):
        return _comparison(node)
    value = _value(node)
    return lambda row: bool(value(row))


def _comparison(node: ast.Compare) -> Condition:
    values = [_value(part) for part in (node.left, *node.comparators)]
    tests = []
    for sign in node.ops:
        if type(sign) not in COMPARE:
            raise RunError(f"--where: use == and != instead of is: {ast.unparse(node)}")
        tests.append(COMPARE[type(sign)])

    def holds(row: Row) -> bool:
        found = [value(row) for value in values]
        try:
            return all(test(a, b) for test, a, b in zip(tests, found, found[1:], strict=False))
        except TypeError:  # null < 2, "a" < 2, 2 in null: not so
            return False

    return holds


def _value(node: ast.expr) -> Callable[[Row], Any]:
    key = _key(node)
    if key in WORDS:
        return lambda row: WORDS[key]
    if key is not None:
        return lambda row: look_up(row, key)
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return lambda row: node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        inner = node.operand.value
        if isinstance(inner, int | float):
            return lambda row: -inner
    if isinstance(node, ast.List | ast.Tuple):
        parts = [_value(part) for part in node.elts]
        return lambda row: [part(row) for part in parts]
    raise RunError(f"--where: '{ast.unparse(node)}' is neither a key nor a value\n{_EXAMPLE}")


def _key(node: ast.expr) -> str | None:
    """Return the key that names, dots and slashes spell, None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _key(node.value)
        return None if head is None else f"{head}.{node.attr}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        left, right = _key(node.left), _key(node.right)
        return None if left is None or right is None else f"{left}/{right}"
    return None


def _keys(node: ast.expr) -> Iterator[str]:
    key = _key(node)
    if key is not None:
        if key not in WORDS:
            yield key
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _keys(child)
