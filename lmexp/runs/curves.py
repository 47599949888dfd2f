"""Learning curves of a run: metrics.jsonl as columns, with the axes that runs can be compared along."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lmexp.runs.index import Entry

AXES = {"steps": "steps", "tokens": "tokens", "flops": "FLOPs", "seconds": "seconds of training"}
"""What runs can be put side by side at, and what it is called."""
NO_SERIES = ("step", "tokens")


@dataclass
class Curves:
    """Columns of equal length; a metric is None where a line of metrics.jsonl lacks it."""

    axes: dict[str, list[float]] = field(default_factory=dict)
    series: dict[str, list[float | None]] = field(default_factory=dict)

    def points(self, metric: str, axis: str) -> tuple[list[float], list[float]]:
        """Return where on an axis a metric was taken, and its values."""
        pairs = [
            (x, y) for x, y in zip(self.axes.get(axis, []), self.series.get(metric, []), strict=False) if y is not None
        ]
        return [x for x, _ in pairs], [y for _, y in pairs]

    def value_at(self, metric: str, axis: str, place: float) -> float | None:
        """Return a metric at a place on an axis, on the line between its neighbours; None where it was not taken."""
        xs, ys = self.points(metric, axis)
        if not xs or not xs[0] <= place <= xs[-1]:
            return None
        right = bisect_left(xs, place)
        if xs[right] == place:
            return ys[right]
        share = (place - xs[right - 1]) / (xs[right] - xs[right - 1])
        return ys[right - 1] + share * (ys[right] - ys[right - 1])


def read_curves(entry: Entry, metrics: Sequence[str] | None = None, *, most: int | None = None) -> Curves:
    """Return the curves of a run; lines that are damaged or go back in steps are left out.

    `metrics` are read alone; of more than `most` rows those that hold an evaluation are kept first, then others evenly.
    """
    rows, last = [], -1.0
    for row in entry.folder.metrics:
        step = _finite(row.get("step")) if isinstance(row, dict) else None
        if step is not None and step >= last:
            rows.append(row)
            last = step
    if not rows:
        return Curves()
    names = list(dict.fromkeys(name for row in rows for name in row) if metrics is None else metrics)
    tokens = _tokens(rows)
    axes = {
        "steps": [float(row["step"]) for row in rows],
        "tokens": tokens,
        "flops": _scaled(tokens, entry.get("flops"), entry.get("tokens")),
        "seconds": _seconds(tokens, [_finite(row.get("train/tokens_per_second")) for row in rows], entry),
    }
    kept = range(len(rows)) if most is None or len(rows) <= most else _thinned(rows, names, most)
    series = {name: [_finite(rows[place].get(name)) for place in kept] for name in names if name not in NO_SERIES}
    return Curves(
        {axis: [values[place] for place in kept] for axis, values in axes.items() if values},
        {name: values for name, values in series.items() if any(value is not None for value in values)},
    )


def _thinned(rows: Sequence[dict[str, Any]], names: Sequence[str], most: int) -> list[int]:
    rare = [name for name in names if not name.startswith("train/") and name not in NO_SERIES]
    evaluated = [place for place, row in enumerate(rows) if any(name in row for name in rare)]
    kept = {0, len(rows) - 1, *_evenly(evaluated, most // 2)}
    kept |= set(_evenly([place for place in range(len(rows)) if place not in kept], most - len(kept)))
    return sorted(kept)


def _tokens(rows: list[dict[str, Any]]) -> list[float]:
    values, last = [], 0.0
    for row in rows:
        last = max(last, _finite(row.get("tokens")) or 0.0)
        values.append(last)
    return values


def _seconds(tokens: list[float], speeds: list[float | None], entry: Entry) -> list[float]:
    """Return the time spent in training up to each row: tokens by the speed that was measured over them."""
    speed = next((value for value in speeds if value), None)
    if speed is None:
        return _scaled(tokens, entry.get("seconds_trained"), entry.get("tokens"))
    seconds, total, before = [], 0.0, 0.0
    for here, measured in zip(tokens, speeds, strict=True):
        speed = measured or speed
        total += (here - before) / speed
        before = here
        seconds.append(total)
    return seconds


def _scaled(tokens: list[float], total: Any, total_tokens: Any) -> list[float]:
    whole, share = _finite(total), _finite(total_tokens)
    return [value * whole / share for value in tokens] if whole and share else []


def _finite(value: Any) -> float | None:
    is_number = type(value) is float or type(value) is int  # not isinstance, which takes True for a number
    return float(value) if is_number and math.isfinite(value) else None


def _evenly(rows: list[int], most: int) -> list[int]:
    if len(rows) <= most:
        return rows
    return [rows[round(place * (len(rows) - 1) / max(1, most - 1))] for place in range(max(0, most))]
