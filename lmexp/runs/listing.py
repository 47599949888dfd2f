"""Find runs, choose among them, and show them as a table, CSV or JSON."""

import csv
import fnmatch
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lmexp.errors import RunError
from lmexp.runs.curves import read_curves
from lmexp.runs.folder import RunFolder
from lmexp.runs.index import Entry, Index, read_entry
from lmexp.runs.terminal import as_lines, width_of_terminal
from lmexp.runs.text import number, one_line, sparkline
from lmexp.runs.where import look_up, parse_where, require_known

OUTPUTS = "outputs"
COLUMNS = {
    "status": "status",
    "step": "step",
    "val/loss_nats": "val loss",
    "val/bits_per_byte": "bits/byte",
    "tokens": "tokens",
    "train/tokens_per_second": "tokens/s",
    "tags": "tags",
    "created": "created",
}
"""What a list shows unless columns are chosen, and what it calls them."""
CURVE = "val/loss_nats"
STATUS_STYLES = {"done": "green", "failed": "red", "unreadable": "red", "running": "cyan"}


def list_runs(outputs: str | Path = OUTPUTS) -> list[RunFolder]:
    """Return every run below a folder, the oldest first."""
    return [entry.folder for entry in Index(outputs).entries()]


def find_run(name: str, outputs: str | Path = OUTPUTS) -> RunFolder:
    """Return the run that a path, or a part of a name that only one run has, means.

    Raises:
        RunError: no run, or more than one.
    """
    path = Path(name).expanduser()
    if (path / "run.json").is_file():
        return RunFolder(path)
    entries = Index(outputs).entries()
    matches = _called(name, entries)
    if len(matches) == 1:
        return matches[0].folder
    if matches:
        shown = "\n  ".join(str(entry.path) for entry in matches[:10])
        raise RunError(f"'{name}' is part of {len(matches)} names; write more of it:\n  {shown}")
    there = f"{len(entries)} runs are there: lmexp runs" if entries else "there is none yet: lmexp train"
    raise RunError(f"no run is called '{name}' below {outputs}/; {there}")


def select(
    names: Sequence[str] = (),
    *,
    where: str | None = None,
    archived: bool = False,
    outputs: str | Path = OUTPUTS,
) -> list[Entry]:
    """Return the runs that are meant, the oldest first; all of them where no name is given.

    A name is a run (path, or part of a name that only one has), a project, a folder of runs, a sweep, a tag, or a
    pattern with *. Archived runs are left out unless they are named or asked for.

    Raises:
        RunError: a name means nothing, or the condition is none.
    """
    entries = Index(outputs).entries()
    if names:
        meant: dict[Path, Entry] = {}
        for name in names:
            meant |= {entry.path.resolve(): entry for entry in _meant(name, entries, outputs)}
        chosen = sorted(meant.values(), key=lambda entry: (str(entry.brief.get("created", "")), entry.path.name))
    else:
        chosen = [entry for entry in entries if archived or not entry.brief["archived"]]
    if where is None:
        return chosen
    holds, keys = parse_where(where)
    _require_keys(chosen, keys)
    return [entry for entry in chosen if holds(entry)]


def sort(entries: list[Entry], key: str, *, reverse: bool = False) -> list[Entry]:
    """Return runs in the order of a key; those that lack it, or hold NaN, come last either way.

    Raises:
        RunError: no run has the key.
    """
    _require_keys(entries, {key})
    keyed = [(look_up(entry, key), entry) for entry in entries]
    there = [pair for pair in keyed if pair[0] is not None and pair[0] == pair[0]]
    numbers = all(isinstance(value, int | float) for value, _ in there)
    there.sort(key=lambda pair: pair[0] if numbers else str(pair[0]), reverse=reverse)
    return [entry for _, entry in there] + [entry for value, entry in keyed if value is None or value != value]


def as_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return what run.json, the labels and the status say of each run, for `lmexp runs --json`; NaN becomes null."""
    _load(entries)
    rows = []
    for entry in entries:
        metrics = {key: None if math.isnan(value) else value for key, value in entry.metrics.items()}
        known = {key: entry.get(key) for key in ("path", "run", "name", "status", "tags", "archived", "group")}
        rows.append({**entry.record, **known, "metrics": metrics, "problem": entry.brief["problem"]})
    return rows


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """Return one JSON list, a run a line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]" if rows else "[]"


def as_csv(entries: Sequence[Entry], columns: Sequence[str]) -> str:
    """Return runs as CSV for a spreadsheet, in which nothing is a formula.

    Raises:
        RunError: no run has a column.
    """
    _require_keys(entries, set(columns))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", *columns])
    for entry in entries:
        writer.writerow([_cell(entry.id), *(_cell(look_up(entry, key)) for key in columns)])
    return file.getvalue()


def as_table(entries: Sequence[Entry], columns: Sequence[str] | None = None, *, width: int | None = None) -> str:
    """Return runs as a table for a terminal; without chosen columns, those that say something and find room.

    Raises:
        RunError: no run has a column.
    """
    if columns:
        _require_keys(entries, set(columns))
    chosen = list(columns) if columns else [key for key in COLUMNS if any(_shown(entry, key) for entry in entries)]
    cells = {key: [_shown(entry, key) for entry in entries] for key in chosen}
    titles = {key: one_line(key) if columns else COLUMNS[key] for key in chosen}
    names = [_name(entry) for entry in entries]
    widths = {key: max(len(titles[key]), *map(len, cells[key])) for key in chosen}
    room = (width or width_of_terminal()) - max(map(len, names)) - 2
    while not columns and len(chosen) > 2 and sum(widths[key] + 2 for key in chosen) > room:
        chosen.remove(next(key for key in ("tags", "created", *reversed(chosen)) if key in chosen))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold")
    for key in chosen:
        is_text = any(isinstance(look_up(entry, key), str | list) for entry in entries)
        table.add_column(Text(titles[key]), justify="left" if is_text else "right", overflow="fold")
    has_curves = not columns and sum(widths[key] + 2 for key in chosen) + 18 <= room and len(entries) <= 100
    if has_curves:
        table.add_column("val curve", no_wrap=True)
    for place, (entry, name) in enumerate(zip(entries, names, strict=True)):
        row = [Text(name)]
        for key in chosen:
            row.append(Text(cells[key][place], STATUS_STYLES.get(entry.status, "") if key == "status" else ""))
        if has_curves:
            row.append(Text(sparkline(read_curves(entry).points(CURVE, "steps")[1])))
        table.add_row(*row)
    return as_lines(table, width=width)


def _called(name: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the runs that a name could mean: those that are called so, else those whose name it is part of."""
    exact = [entry for entry in entries if name in (entry.id, entry.id.rpartition("/")[2], entry.brief["label"])]
    return exact or [entry for entry in entries if name in entry.id or name in (entry.brief["label"] or "")]


def _meant(name: str, entries: Sequence[Entry], outputs: str | Path) -> list[Entry]:
    path = Path(name).expanduser()
    if (path / "run.json").is_file():
        return [next((entry for entry in entries if entry.path.resolve() == path.resolve()), None) or read_entry(path)]
    inside = [entry for entry in entries if entry.id.partition("/")[0] == name.rstrip("/")]
    labelled = [entry for entry in entries if name in entry.brief["tags"] or name in (entry.brief.get("sweeps") or [])]
    if inside or labelled:
        return [entry for entry in inside or labelled if not entry.brief["archived"]]
    if "*" in name or "?" in name:
        matches = [entry for entry in entries if fnmatch.fnmatch(entry.id, f"*{name}*") and not entry.brief["archived"]]
    else:
        matches = _called(name, entries)
    if matches and (len(matches) == 1 or "*" in name or "?" in name):
        return matches
    if matches:
        raise RunError(f"'{name}' is part of {len(matches)} names; write more of it, or '{name}*' to mean them all")
    if path.is_dir():
        below = sorted(path.glob("*/run.json")) + sorted(path.glob("*/*/run.json"))
        if below:
            return [read_entry(file.parent) for file in below]
        raise RunError(f"{path} is neither a run nor a folder of runs: it has no run.json")
    raise RunError(f"no run, project, sweep or tag is called '{name}' below {outputs}/; {len(entries)} runs are there")


def _require_keys(entries: Sequence[Entry], keys: set[str]) -> None:
    """Raise when a key is in no run; the first run that has it is answer enough."""
    missing = {key for key in keys if entries and not any(look_up(entry, key) is not None for entry in entries)}
    if missing:
        _load(entries)
        require_known(missing, {key for entry in entries for key in entry.row})


def _load(entries: Sequence[Entry]) -> None:
    if entries and entries[0].index:
        entries[0].index.load(entries)


def _name(entry: Entry) -> str:
    title = entry.brief["label"]
    return one_line(f"{entry.path.parent.name}/{title}" if title else entry.id)


def _shown(entry: Entry, key: str) -> str:
    value = look_up(entry, key)
    if key == "created":
        return str(value or "")[:16].replace("T", " ")
    if key == "train/tokens_per_second" and isinstance(value, float):
        return f"{value:,.0f}"
    if isinstance(value, float) and key.startswith(("val/", "test/", "best/")):
        return f"{value:.4f}"
    return number(value)


def _cell(value: Any) -> Any:
    """Return a value of a CSV cell; a text that a spreadsheet would calculate gets an apostrophe."""
    if value is None or isinstance(value, int | float):
        return value
    text = one_line(",".join(map(str, value)) if isinstance(value, list) else str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
