"""Conditions mean what they say, and nothing else is executed."""

from typing import Any

import pytest

from lmexp.errors import RunError
from lmexp.runs.where import look_up, parse_where, require_known

ROW: dict[str, Any] = {
    "model.name": "lstm",
    "optimizer.learning_rate": 1e-3,
    "val/bits_per_byte": 1.9,
    "status": "done",
    "tags": ["good", "paper"],
    "model.tie_embeddings": True,
    "parent": None,
    "nan": float("nan"),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('model.name == "lstm" and val/bits_per_byte < 2', True),
        ('model == "lstm"', True),
        ('model != "lstm" or val/bits_per_byte >= 1.9', True),
        ("not val/bits_per_byte < 2", False),
        ("optimizer.learning_rate in [1e-3, 1e-2]", True),
        ('"good" in tags', True),
        ('"bad" not in tags', True),
        ("1 < val/bits_per_byte < 2", True),
        ("1 < val/bits_per_byte < 1.5", False),
        ("parent == null", True),
        ("model.tie_embeddings == true", True),
        ("model.tie_embeddings", True),
        ("missing < 2", False),
        ("missing > 2", False),
        ("missing == null", True),
        ('val/bits_per_byte < "2"', False),
        ("val/bits_per_byte > -1", True),
        ("nan < 1 or nan > 1", False),
        ('status == "done"', True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    assert parse_where(text)[0](ROW) is holds


def test_the_keys_of_a_condition_are_known() -> None:
    assert parse_where('model.name == "a" and not val/x < 2 and b in [c, null]')[1] == {"model.name", "val/x", "b", "c"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "model.name =", "a; b", "__import__('os').system('true')", "model.name()", "[x for x in y]", "a + 1"),
        *("lambda: 1", "a is b", "f'{a}'", "a[0]", "(" * 300 + "a" + ")" * 300, "-a", "a == b''", "x := 1", "1 / a"),
        *("\x00", "a if b else c", "not " * 5000 + "a"),
    ],
)
def test_what_is_no_condition_is_one_clear_line(text: str) -> None:
    with pytest.raises(RunError, match="--where"):
        parse_where(text)


def test_an_unknown_key_gets_the_nearest_name() -> None:
    with pytest.raises(RunError, match=r"no run has the key 'modle.name'; did you mean model.name\?"):
        require_known({"modle.name"}, set(ROW))
    require_known({"model", "status"}, set(ROW))
    assert look_up(ROW, "model") == "lstm"
