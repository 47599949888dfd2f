"""What differs between two runs, config and environment, in the order of likely effect."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lmexp.config.store import flat, is_identity
from lmexp.errors import RunError
from lmexp.runs.index import Entry
from lmexp.runs.listing import OUTPUTS, select
from lmexp.runs.terminal import as_lines
from lmexp.runs.text import number, one_line

EFFECT = (
    *(
        "data_fingerprint",
        "data.name",
        "tokenizer_hash",
        "tokenizer",
        "task",
        "init_from",
        "model.name",
        "model",
        "tokens",
    ),
    *("trainer.max_steps", "trainer.max_epochs", "data.batch_size", "data.context_length", "data", "optimizer.name"),
    *(
        "optimizer.learning_rate",
        "optimizer",
        "schedule",
        "trainer.precision",
        "trainer",
        "callbacks",
        "source_hash",
        "git",
    ),
    *("packages.torch", "packages", "device", "world_size", "num_threads", "seed", "python", "platform", "host"),
)
"""Keys and groups of keys, those first that usually move a result most."""
ENVIRONMENT = (
    *("data_fingerprint", "tokenizer_hash", "tokens", "source_hash", "git", "packages", "device", "world_size"),
    *("num_threads", "python", "platform", "host", "cpu_count", "plugins"),
)
MISSING = "-"


def two_runs(names: Sequence[str], outputs: str | Path = OUTPUTS) -> tuple[Entry, Entry]:
    """Return the two runs that are named.

    Raises:
        RunError: there are not two.
    """
    if len(names) != 2:
        raise RunError(f"--explain takes two runs, not {len(names)}: lmexp compare --explain A B")
    found = [select([name], outputs=outputs) for name in names]
    for name, entries in zip(names, found, strict=True):
        if len(entries) != 1:
            raise RunError(f"--explain takes two runs, and '{one_line(name)}' means {len(entries)}")
    return found[0][0], found[1][0]


def differences(one: Entry, other: Entry) -> list[dict[str, Any]]:
    """Return {"key", "a", "b", "kind"} of everything that differs; kind is config, environment, or no effect.

    Keys of paths, loggers and the like, which do not change a result, come last.
    """
    sides = [_known(entry) for entry in (one, other)]
    rows = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (side.get(key) for side in sides)
        if a == b:
            continue
        kind = "environment"
        if key in one.config or key in other.config:
            config = one.config if key in one.config else other.config
            kind = "config" if is_identity(key, config) else "no effect"
        rows.append({"key": key, "a": a, "b": b, "kind": kind})
    return sorted(rows, key=lambda row: (row["kind"] == "no effect", _rank(row["key"])))


def as_text(one: Entry, other: Entry, rows: list[dict[str, Any]], *, width: int | None = None) -> str:
    """Return the differences of two runs as a table for a terminal."""
    if not rows:
        return f"{one.id} and {other.id} differ in nothing that is recorded"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", one_line(one.title), one_line(other.title), ""):
        table.add_column(Text(title), overflow="fold")
    for row in rows:
        style = "dim" if row["kind"] == "no effect" else ""
        cells = (row["key"], _shown(row["a"]), _shown(row["b"]), row["kind"])
        table.add_row(*(Text(one_line(cell), style) for cell in cells))
    return as_lines(table, width=width)


def _known(entry: Entry) -> dict[str, Any]:
    record = {key: entry.record.get(key) for key in ENVIRONMENT}
    plain = {key: value for key, value in record.items() if not isinstance(value, dict)}
    return entry.config | flat({key: value for key, value in record.items() if isinstance(value, dict)}) | plain


def _rank(key: str) -> int:
    """Return the place of a key among `EFFECT`: its own, or that of the longest name it lies under."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in EFFECT:
            return EFFECT.index(name)
    return len(EFFECT)


def _shown(value: Any) -> str:
    return MISSING if value is None else number(value)
