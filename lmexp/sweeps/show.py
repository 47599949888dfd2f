"""How a sweep stands, for people: a table that moves on a terminal, a line for each change elsewhere."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lmexp.runs.folder import RunFolder
from lmexp.runs.likeness import short_names
from lmexp.runs.metrics import unit_of
from lmexp.runs.terminal import as_lines
from lmexp.runs.text import number, one_line
from lmexp.sweeps.record import DONE, ENDED, FAILED, PRUNED, RUNNING, WAITING, Record, SweepFolder, Trial, seconds_of

STYLES = {DONE: "green", RUNNING: "yellow", FAILED: "red", PRUNED: "dim", WAITING: "dim"}
MOST_ROWS = 20
Say = Callable[[str], None]


class Watcher:
    """Looks at the folder of a sweep in a thread of its own, and shows it while its workers are at work."""

    def __init__(self, folder: SweepFolder, say: Say) -> None:
        self.folder, self.say = folder, say
        self.said = {(trial["number"], trial["state"]) for trial in folder.record["trials"]}
        self.is_over = threading.Event()
        self.live: Live | None = None
        self.thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> "Watcher":
        if sys.stderr.isatty():
            self.live = Live(console=Console(stderr=True, highlight=False), refresh_per_second=4, transient=True)
            self.live.start()
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.is_over.set()
        self.thread.join()
        if self.live is not None:
            self.live.stop()
        self._look()

    def _watch(self) -> None:
        while not self.is_over.wait(0.5):
            self._look()

    def _look(self) -> None:
        record = self.folder.record
        if self.live is not None and self.live.is_started:
            self.live.update(as_table(record, most_rows=MOST_ROWS))
            return
        for trial in record["trials"]:
            stands = (trial["number"], trial["state"])
            if stands not in self.said and trial["state"] != WAITING and self.live is None:
                self.say(trial_line(record, trial))
            self.said.add(stands)


def trial_line(record: Record, trial: Trial) -> str:
    """Return how a trial stands, in one line."""
    line = f"trial {trial['number'] + 1}/{record['n_trials']} {trial['state']}: {chosen(trial)}"
    if trial["state"] == DONE:
        line += f"  {values(record, trial)}"
    return line + (f"  {one_line(trial['error'])}" if trial["error"] else "")


def chosen(trial: Trial) -> str:
    """Return what a trial has of its own."""
    return " ".join(map(_short, trial["overrides"])) or "as it is"


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    try:
        return f"{key}={float(value):.4g}" if "." in value or "e" in value else override
    except ValueError:
        return override


def values(record: Record, trial: Trial) -> str:
    """Return the metrics of a trial, or of what it has come to so far."""
    if trial["values"] is not None:
        return "  ".join(
            f"{metric} {number(value)}" for metric, value in zip(record["metrics"], trial["values"], strict=True)
        )
    return ""


def as_table(record: Record, *, most_rows: int | None = None) -> Any:
    """Return the trials as a table: those at work, the best, and the newest where not all find room."""
    rows = _shown(record, most_rows)
    names = short_names({one["key"]: None for one in record["space"]["dimensions"]})
    is_moving = any(trial["state"] == RUNNING for trial in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name in names.values():
        table.add_column(Text(name), overflow="fold")
    if is_moving:
        table.add_column("progress", justify="right")
    for metric in record["metrics"]:
        table.add_column(metric, justify="right", overflow="fold")
    table.add_column("time", justify="right")
    failed = []
    for trial in rows:
        progress, newest = _progress(record, trial)
        is_best = trial["number"] in record["best"]
        values = dict(_short(text).partition("=")[::2] for text in trial["overrides"])
        table.add_row(
            f"{'* ' if is_best else ''}{trial['number'] + 1}",
            Text(trial["state"], STYLES[trial["state"]]),
            *(Text(values.get(key, "")) for key in names),
            *([progress] if is_moving else []),
            *newest,
            _duration(seconds_of(trial)) if seconds_of(trial) else "",
            style="bold" if is_best else "",
        )
        if trial["error"]:
            failed.append(Text(f"trial {trial['number'] + 1}: {one_line(trial['error'])}", "red"))
    left = len(record["trials"]) - len(rows)
    more = [Text(f"... and {left} more: lmexp sweep status {record['name']}", "dim")] if left > 0 else []
    return Group(table, *more, *failed, Text(""), Text(summary_line(record)))


def _shown(record: Record, most_rows: int | None) -> list[Trial]:
    trials: list[Trial] = record["trials"]
    if most_rows is None or len(trials) <= most_rows:
        return trials
    order = sorted(
        trials, key=lambda trial: (trial["state"] != RUNNING, trial["number"] not in record["best"], -trial["number"])
    )
    begun = [trial for trial in order if trial["state"] != WAITING] or order
    return sorted(begun[:most_rows], key=lambda trial: trial["number"])


def _progress(record: Record, trial: Trial) -> tuple[str, list[str]]:
    """Return how far a trial is, and its metrics so far."""
    if trial["values"] is not None:
        return "", [number(value) for value in trial["values"]]
    nothing = [""] * len(record["metrics"])
    if not trial["runs"] or trial["state"] == WAITING:
        return "", nothing
    run = RunFolder(Path(record["working_folder"], trial["runs"][-1]))
    found = run.record
    step, most = last_step(run), found.get("max_steps")
    metrics = found.get("metrics", {})
    newest = [number(metrics[metric]) if metric in metrics else "" for metric in record["metrics"]]
    return (f"{step / most:.0%}" if most else ""), newest


def last_step(run: RunFolder) -> int:
    """Return the step of the newest line of metrics.jsonl, 0 where there is none."""
    try:
        with open(run.path / "metrics.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0


def summary_line(record: Record) -> str:
    """Return how many trials stand how, which is best, and how long the rest will take."""
    states = [trial["state"] for trial in record["trials"]]
    counts = [f"{states.count(state)} {state}" for state in (DONE, PRUNED, FAILED, RUNNING) if states.count(state)]
    waiting = record["n_trials"] - len(states) + states.count(WAITING)
    counts += [f"{waiting} to come"] if waiting else []
    line = ", ".join(counts)
    if record["best"]:
        best = [f"trial {trial + 1}: {values(record, record['trials'][trial])}" for trial in record["best"][:3]]
        line += f"; best: {' | '.join(best)}"
    left = _seconds_left(record)
    return line + (f"; about {_duration(left)} left" if left else "")


def _seconds_left(record: Record) -> float:
    """Return what trials have taken so far, on average, times those to come, over those at once."""
    ended = [trial["seconds"] for trial in record["trials"] if trial["state"] in ENDED and trial["seconds"]]
    running = [trial for trial in record["trials"] if trial["state"] == RUNNING]
    to_come = record["n_trials"] - sum(trial["state"] in ENDED for trial in record["trials"])
    if not ended or not to_come:
        return 0.0
    mean = sum(ended) / len(ended)
    spent = sum(min(mean, seconds_of(trial)) for trial in running)
    return max(0.0, mean * to_come - spent) / max(1, len(running))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def closing_lines(folder: SweepFolder, record: Record) -> list[str]:
    """Return what a sweep has come to, and what to do next."""
    lines = [summary_line(record)]
    for trial in record["trials"]:
        if trial["state"] == FAILED:
            lines.append(f"  failed: trial {trial['number'] + 1} ({chosen(trial)}): {one_line(trial['error'] or '')}")
    if any(trial["state"] == FAILED for trial in record["trials"]):
        lines.append("  the same command with sweep.retry=true runs them again")
    for best in record["best"][:3]:
        trial = record["trials"][best]
        lines.append(f"  best: {' '.join(trial['overrides'])}  {trial['runs'][0] if trial['runs'] else ''}")
    lines.append(f"next: lmexp compare {folder.name}, lmexp sweep status {folder.name}, lmexp report {folder.name}")
    return lines


def as_text(record: Record) -> str:
    """Return the whole table for `lmexp sweep status`."""
    units = ", ".join(f"{metric} ({unit_of(metric)}, {direction} is better)" for metric, direction in _metrics(record))
    return f"{record['name']}: {units}\n\n" + as_lines(as_table(record))


def _metrics(record: Record) -> list[tuple[str, str]]:
    return list(zip(record["metrics"], record["directions"], strict=True))
