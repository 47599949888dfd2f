"""Two sides in one run: rounds that alternate, a control, medians of ratios. What every benchmark of `run` is made of.

A side is called with the number of the round, which is also its seed, and returns quantities. Sides whose names begin
with "lmexp" are ours, the others are peers; "lmexp again" is the first once more, the A/A control: what its ratios
show is noise.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lmexp.runs.statistics import spread, welch

Quantities = dict[str, float]
"""Numbers by name, the unit last: wall_seconds, tokens, test_loss_nats, peak_bytes."""

OURS, AGAIN = "lmexp", "lmexp again"


@dataclass(frozen=True)
class Goal:
    """What a ratio theirs / ours must reach, or a loss theirs - ours."""

    peer: str
    quantity: str
    at_least: float
    ours: str = OURS


@dataclass(frozen=True)
class Benchmark:
    """Sides, and what is said about them."""

    counts: str
    """What the figures count: imports, compiling, evaluation."""
    sides: dict[str, Callable[[int], Quantities]]
    rounds: int = 5
    warmups: int = 0
    """Rounds before these that do not count."""
    goals: list[Goal] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One quantity of ours beside that of another side."""

    side: str
    peer: str
    quantity: str
    ours: float
    theirs: float
    value: float
    """theirs / ours, median over the rounds; of losses the difference of the means."""
    low: float
    high: float
    """Lowest and highest round; of losses the 95 % interval of the difference (Welch)."""
    goal: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached, None where there is none."""
        return None if self.goal is None else self.value >= self.goal


def measure(benchmark: Benchmark, *, rounds: int | None = None) -> dict[str, list[Quantities]]:
    """Return the quantities of each side in each round; a line of each goes to standard error."""
    results: dict[str, list[Quantities]] = {name: [] for name in benchmark.sides}
    for number in range(-benchmark.warmups, rounds or benchmark.rounds):
        names = list(benchmark.sides)
        for name in names if number % 2 == 0 else reversed(names):
            found = benchmark.sides[name](max(0, number))
            if number >= 0:
                results[name].append(found)
                shown = "  ".join(f"{key} {in_short(key, value)}" for key, value in found.items())
                print(f"  round {number + 1} {name:<26} {shown}", file=sys.stderr, flush=True)
    return results


def compare(benchmark: Benchmark, results: dict[str, list[Quantities]]) -> list[Row]:
    """Return a row for each side of ours, each peer, and each quantity that both have."""
    mine = [name for name in results if name.startswith(OURS) and name != AGAIN]
    pairs = [(OURS, AGAIN)] if AGAIN in results else []
    pairs += [(side, peer) for side in mine for peer in results if not peer.startswith(OURS)]
    goals = {(goal.ours, goal.peer, goal.quantity): goal.at_least for goal in benchmark.goals}
    return [
        _row(side, peer, key, results[side], results[peer], goals.get((side, peer, key)))
        for side, peer in pairs
        for key in results[side][0]
        if key in results[peer][0]
    ]


def _row(side: str, peer: str, key: str, ours: list[Quantities], theirs: list[Quantities], goal: float | None) -> Row:
    x, y = [found[key] for found in ours], [found[key] for found in theirs]
    if key.endswith("_nats"):
        value, low, high = statistics.mean(y) - statistics.mean(x), float("nan"), float("nan")
        if len(x) > 1 and (spread(x).sd or spread(y).sd):
            shift = welch(y, x)
            low, high = shift.low, shift.high
        return Row(side, peer, key, statistics.mean(x), statistics.mean(y), value, low, high, goal)
    ratios = [b / a for a, b in zip(x, y, strict=True)]
    value = statistics.median(y) / statistics.median(x)
    return Row(side, peer, key, statistics.median(x), statistics.median(y), value, min(ratios), max(ratios), goal)


def table(name: str, rows: list[Row]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"{name:<42} {'ours':>9} {'theirs':>9}  theirs/ours [rounds]      goal"]
    heading = None
    for row in rows:
        sign = "+" if row.quantity.endswith("_nats") else "x"
        value = f"{row.value:+.3f}" if sign == "+" else f"{row.value:.2f}x"
        goal = "" if row.goal is None else f"{row.goal:+.2f}" if sign == "+" else f"{row.goal:g}x"
        met = {None: "", True: "met", False: "MISSED"}[row.is_met]
        if heading != (row.side, row.peer):
            heading = (row.side, row.peer)
            lines.append(f" {row.side} and {row.peer}")
        what = f"  {row.quantity}"
        span = f"[{row.low:+.3f}, {row.high:+.3f}]" if sign == "+" else f"[{row.low:.2f}, {row.high:.2f}]"
        lines.append(
            f"{what:<42} {in_short(row.quantity, row.ours):>9} {in_short(row.quantity, row.theirs):>9}  "
            f"{value:>7} {span:<17} {goal:>6} {met}".rstrip()
        )
    return lines


def in_short(quantity: str, value: float) -> str:
    """Return a number as a table shows it."""
    if quantity.endswith("bytes"):
        return f"{value / 1e6:,.0f} MB"
    if quantity.endswith("seconds"):
        return f"{value:,.2f} s" if value >= 0.1 else f"{value * 1e3:.3f} ms"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def as_json(benchmark: Benchmark, results: dict[str, list[Quantities]], rows: list[Row]) -> dict[str, Any]:
    """Return all that was measured."""
    return {
        "counts": benchmark.counts,
        "rounds": results,
        "rows": [{**row.__dict__, "is_met": row.is_met} for row in rows],
    }
