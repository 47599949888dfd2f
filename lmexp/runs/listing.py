"""Find runs by a part of their name, and list them."""

import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lmexp.errors import RunError
from lmexp.runs.folder import HEARTBEAT_SECONDS, RunFolder

OUTPUTS = "outputs"


def list_runs(outputs: str | Path = OUTPUTS) -> list[RunFolder]:
    """Return every run below a folder, the oldest first."""
    runs = [RunFolder(path.parent) for path in Path(outputs).glob("*/*/run.json")]
    return sorted(runs, key=lambda run: (run.record.get("created", ""), run.path.name))


def find_run(name: str, outputs: str | Path = OUTPUTS) -> RunFolder:
    """Return the run that a path, or a part of a name that only one run has, means.

    Raises:
        RunError: no run, or more than one.
    """
    path = Path(name).expanduser()
    if (path / "run.json").is_file():
        return RunFolder(path)
    runs = list_runs(outputs)
    matches = [run for run in runs if name in f"{run.path.parent.name}/{run.path.name}"]
    exact = [run for run in matches if name in (run.path.name, f"{run.path.parent.name}/{run.path.name}")]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        shown = "\n  ".join(str(run.path) for run in matches[:10])
        raise RunError(f"'{name}' is part of {len(matches)} names; write more of it:\n  {shown}")
    there = f"{len(runs)} runs are there: lmexp runs" if runs else "there is none yet: lmexp train"
    raise RunError(f"no run is called '{name}' below {outputs}/; {there}")


def status_of(record: dict[str, Any]) -> str:
    """Return the status of a run; one that no longer gives a sign of life is called cut off."""
    if record.get("status") != "running":
        return record.get("status", "unknown")
    beat = datetime.fromisoformat(record.get("heartbeat", "1970-01-01T00:00:00+00:00")).timestamp()
    return "running" if time.time() - beat < 6 * HEARTBEAT_SECONDS else "cut off"


def as_rows(runs: list[RunFolder]) -> list[dict[str, Any]]:
    """Return what is known of each run as one flat object, for `lmexp runs --json`."""
    rows = []
    for run in runs:
        record = run.record
        rows.append({**record, "path": str(run.path), "status": status_of(record)})
    return rows


def as_table(rows: list[dict[str, Any]], width: int | None = None) -> str:
    """Return runs as a table for a terminal."""
    columns = ["run", "status", "step", "val loss", "bits/byte", "tokens", "tokens/s", "created"]
    table = [columns]
    for row in rows:
        metrics = row.get("metrics", {})
        path = Path(row["path"])
        table.append(
            [
                f"{path.parent.name}/{path.name}",
                row["status"],
                str(row.get("step", "")),
                _number(metrics.get("val/loss_nats"), ".4f"),
                _number(metrics.get("val/bits_per_byte"), ".4f"),
                _number(row.get("tokens"), ",.0f"),
                _number(metrics.get("train/tokens_per_second"), ",.0f"),
                row.get("created", "")[:16].replace("T", " "),
            ]
        )
    width = width or shutil.get_terminal_size((120, 24)).columns
    while sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) > width and len(table[0]) > 4:
        table = [line[:-1] for line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for line in table:
        cells = [
            text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else ""
