"""Two sides in one run: rounds that alternate, a control, medians of ratios. What every benchmark of `run` is made of.

A side is called with the number of the round, which is also its seed, and returns quantities. Sides whose names begin
with "lmexp" are ours, the others are peers; "lmexp again" is the first once more, the A/A control: what its ratios
show is noise.
"""

import math
import operator
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from lmexp.runs.statistics import spread, welch

Quantities = dict[str, float]
"""Numbers by name, the unit last: wall_seconds, tokens, test_loss_nats, peak_bytes."""

OURS, AGAIN = "lmexp", "lmexp again"


@dataclass(frozen=True)
class Goal:
    """What a quantity of ours must reach beside that of a peer; without a peer, what it must not exceed."""

    peer: str | None
    quantity: str
    value: float
    """Least of theirs / ours, or of theirs - ours."""
    ours: str = OURS
    is_difference: bool = False
    """Compare by subtraction; losses always are."""


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
    """Medians over the rounds, of losses means."""
    value: float
    """theirs / ours, or theirs - ours."""
    low: float
    high: float
    """Lowest and highest round; of losses the 95 % interval of the difference (Welch)."""
    is_difference: bool
    goal: Goal | None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached, None where there is none."""
        if self.goal is None:
            return None
        return self.ours <= self.goal.value if self.goal.peer is None else self.value >= self.goal.value


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
    return [
        _row(side, peer, key, results[side], results[peer], _goal(benchmark, side, peer, key))
        for side, peer in pairs
        for key in results[side][0]
        if key in results[peer][0]
    ]


def _goal(benchmark: Benchmark, side: str, peer: str, key: str) -> Goal | None:
    fitting = (g for g in benchmark.goals if g.ours == side and g.quantity == key and g.peer in (peer, None))
    return next(fitting, None) if peer != AGAIN else None


def _row(side: str, peer: str, key: str, ours: list[Quantities], theirs: list[Quantities], goal: Goal | None) -> Row:
    x, y = [found[key] for found in ours], [found[key] for found in theirs]
    if key.endswith("_nats"):
        low = high = math.nan
        if len(x) > 1 and (spread(x).sd or spread(y).sd):
            shift = welch(y, x)
            low, high = shift.low, shift.high
        mine, other = statistics.mean(x), statistics.mean(y)
        return Row(side, peer, key, mine, other, other - mine, low, high, is_difference=True, goal=goal)
    is_difference = goal is not None and goal.is_difference
    by = operator.sub if is_difference else operator.truediv
    rounds = [by(b, a) for a, b in zip(x, y, strict=True)]
    mine, other = statistics.median(x), statistics.median(y)
    value = by(other, mine)
    return Row(side, peer, key, mine, other, value, min(rounds), max(rounds), is_difference=is_difference, goal=goal)


def table(name: str, rows: list[Row]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"{name:<30} {'ours':>10} {'theirs':>10}   theirs/ours [rounds]    goal"]
    pair = None
    for row in rows:
        if pair != (row.side, row.peer):
            pair = (row.side, row.peer)
            lines.append(f" {row.side} and {row.peer}")
        value, low, high = (_compared(row, number) for number in (row.value, row.low, row.high))
        ours, theirs = in_short(row.quantity, row.ours), in_short(row.quantity, row.theirs)
        spread_of_rounds = "" if math.isnan(row.low) else f" [{low}, {high}]"
        line = f"  {row.quantity:<28} {ours:>10} {theirs:>10}  {value:>8}{spread_of_rounds}"
        if row.goal is not None:
            is_own = row.goal.peer is None
            wanted = (
                f"<= {in_short(row.quantity, row.goal.value)}" if is_own else f">= {_compared(row, row.goal.value)}"
            )
            line = f"{line:<76} {wanted} {'met' if row.is_met else 'MISSED'}"
        lines.append(line)
    return lines


def _compared(row: Row, value: float) -> str:
    if not row.is_difference:
        return f"{value:.2f}x"
    return f"{value:+.3f}" if row.quantity.endswith("_nats") else f"{value:+.2f}"


def in_short(quantity: str, value: float) -> str:
    """Return a number as a table shows it."""
    if quantity.endswith("bytes"):
        return f"{value / 1e6:,.0f} MB"
    if quantity.endswith("milliseconds"):
        return f"{value:.3g} ms"
    if quantity.endswith("seconds"):
        return f"{value:,.2f} s"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def as_json(benchmark: Benchmark, results: dict[str, list[Quantities]], rows: list[Row]) -> dict[str, Any]:
    """Return all that was measured."""
    return {
        "counts": benchmark.counts,
        "rounds": results,
        "rows": [{**asdict(row), "is_met": row.is_met} for row in rows],
    }
