"""What can be said of groups beside a baseline: a difference with its interval, and a plain statement or none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmexp.runs import statistics
from lmexp.runs.groups import Group
from lmexp.runs.metrics import Direction

BETTER, WORSE, CANNOT_TELL, NO_STATEMENT = "better", "worse", "cannot tell", "no statement"


@dataclass
class Difference:
    """A group beside the baseline: mean(group) - mean(baseline), its 95 % interval, and a plain statement."""

    group: str
    baseline: str
    value: float | None
    low: float | None
    high: float | None
    p_welch: float | None
    p_permutation: float | None
    p: float | None
    """The larger of both p-values, by Holm's method over all comparisons made."""
    verdict: str
    text: str


def differences(
    groups: Sequence[Group], baseline: Group, direction: Direction, unit: str, *, paired: bool = False
) -> list[Difference]:
    """Return what can be said of each group beside the baseline, all comparisons taken together."""
    pairs = [_pair(group, baseline, paired=paired) for group in groups]
    tested = [number for number, (a, b) in enumerate(pairs) if _too_few(a, b, paired=paired) is None]
    shifts: dict[int, statistics.Shift] = {}
    for place, (a, b) in enumerate(pairs):
        if min(len(a), len(b)) >= 2:
            shifts[place] = statistics.paired(a, b) if paired else statistics.welch(a, b)
    adjusted = dict(zip(tested, statistics.holm([shifts[place].p for place in tested]), strict=True))
    result = []
    for place, group in enumerate(groups):
        a, b = pairs[place]
        shift, p = shifts.get(place), adjusted.get(place)
        value = statistics.spread(a).mean - statistics.spread(b).mean if a and b else None
        verdict = NO_STATEMENT
        if shift is not None and p is not None:
            verdict = CANNOT_TELL
            if p < statistics.ALPHA:
                verdict = BETTER if (shift.value < 0) == (direction is Direction.lower) else WORSE
        if verdict in (BETTER, WORSE) and shift is not None:
            text = _statement(group, baseline, shift, verdict, unit, len(a), len(b), paired=paired)
        elif verdict == CANNOT_TELL:
            text = _cannot_tell(group, baseline, a, b, len(tested), paired=paired)
        else:
            text = f"{group.id} and {baseline.id}: {_too_few(a, b, paired=paired)}"
        result.append(
            Difference(
                group=group.id,
                baseline=baseline.id,
                value=value,
                low=shift.low if shift else None,
                high=shift.high if shift else None,
                p_welch=shift.p_t if shift else None,
                p_permutation=shift.p_arrangements if shift else None,
                p=p,
                verdict=verdict,
                text=text,
            )
        )
    return result


def _pair(group: Group, baseline: Group, *, paired: bool) -> tuple[list[float], list[float]]:
    if not paired:
        return group.numbers, baseline.numbers
    mine = {score.seed: score.value for score in group.scores}
    theirs = {score.seed: score.value for score in baseline.scores}
    seeds = [seed for seed in mine if seed in theirs]
    return [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def _too_few(a: Sequence[float], b: Sequence[float], *, paired: bool) -> str | None:
    """Return why nothing can be said of samples this small, None when something can."""
    smallest = min(len(a), len(b))
    if paired:
        few = statistics.SMALLEST_PAIRS
        return None if smallest >= few else f"{smallest} seeds in common: no statement by pairs below {few}"
    if smallest >= statistics.SMALLEST_SAMPLE:
        return None
    counts = f"n = {len(a)} and {len(b)}" if len(a) != len(b) else f"n = {len(a)}"
    return f"{counts}: no statement" + ("" if smallest == 1 else f" below {statistics.SMALLEST_SAMPLE} seeds a side")


def _statement(
    group: Group, baseline: Group, shift: statistics.Shift, verdict: str, unit: str, n: int, m: int, *, paired: bool
) -> str:
    sizes = sorted((abs(shift.low), abs(shift.high)))
    size, low, high = (_same_digits(value, sizes[1] - sizes[0]) for value in (abs(shift.value), *sizes))
    counts = f"{n} pairs" if paired else f"n = {n} and {m}"
    return f"{group.id} is {verdict} than {baseline.id} by {size} {unit}".rstrip() + f" [{low}, {high}], {counts}"


def _cannot_tell(
    group: Group, baseline: Group, a: Sequence[float], b: Sequence[float], comparisons: int, *, paired: bool
) -> str:
    who = f"{group.id} and {baseline.id}: cannot tell"
    if paired:
        return who
    more = statistics.more_seeds(a, b, comparisons=comparisons)
    if more is None:
        return f"{who}: if there is a difference, it is small beside the spread of the seeds"
    return f"{who}: about {more} more seed{'s' if more > 1 else ''} a side would"


def _same_digits(value: float, width: float) -> str:
    """Return a number with as many decimals as show an interval of this width in two digits."""
    decimals = 3 if width <= 0 else max(0, min(9, 1 - math.floor(math.log10(width))))
    return f"{value:,.{decimals}f}"
