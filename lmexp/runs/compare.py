"""Which group of runs is better, by how much, and how sure that is.

Runs that differ in nothing but their seed are a group. Groups are put beside a baseline by the statistics of
`statistics.py`; what cannot be compared (another tokenizer and a loss a token, other data, another budget) is refused
with the way out.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmexp.errors import RunError
from lmexp.runs import statistics
from lmexp.runs.curves import AXES, read_curves
from lmexp.runs.index import Entry
from lmexp.runs.likeness import differing_keys, short_names, unlike
from lmexp.runs.listing import OUTPUTS, select
from lmexp.runs.metrics import Direction, default_metric, direction_of, require_metric, unit_of
from lmexp.runs.text import number, one_line
from lmexp.runs.where import look_up, parse_where

BETTER, WORSE, CANNOT_TELL, NO_STATEMENT = "better", "worse", "cannot tell", "no statement"


@dataclass(frozen=True)
class Score:
    """The metric of one run."""

    run: str
    seed: int | None
    value: float


@dataclass
class Group:
    """Runs that differ in their seed only, and what their metric comes to."""

    id: str
    values: dict[str, Any]
    label: str
    scores: list[Score]
    entries: list[Entry] = field(repr=False)
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.scores)

    @property
    def numbers(self) -> list[float]:
        """The metric, a number a seed."""
        return [score.value for score in self.scores]


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


@dataclass
class Comparison:
    """Groups, the best first, their differences from the baseline, and what was left out and why."""

    metric: str
    better: str
    unit: str
    at: str
    baseline: str | None
    groups: list[Group]
    differences: list[Difference]
    left_out: list[str]
    notes: list[str]
    entries: list[Entry] = field(repr=False)

    @property
    def verdict(self) -> str:
        """What is said of the best group that is not the baseline."""
        found = {difference.group: difference.verdict for difference in self.differences}
        return next((found[group.id] for group in self.groups if group.id in found), NO_STATEMENT)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for --json."""
        groups = [
            {
                **{key: getattr(group, key) for key in ("id", "label", "values", "n", "mean", "sd", "low", "high")},
                "runs": [asdict(score) for score in group.scores],
            }
            for group in self.groups
        ]
        plain = {key: getattr(self, key) for key in ("metric", "better", "unit", "at", "baseline", "verdict")}
        differences = [asdict(difference) for difference in self.differences]
        return plain | {
            "groups": groups,
            "differences": differences,
            "left_out": self.left_out,
            "notes": self.notes,
            "level": statistics.ALPHA,
        }

    def __str__(self) -> str:
        from lmexp.runs.comparison_table import as_text

        return as_text(self)


def compare(
    runs: Sequence[str] | str = (),
    *,
    metric: str | None = None,
    baseline: str | None = None,
    better: str | None = None,
    at: str | None = None,
    paired: bool = False,
    where: str | None = None,
    outputs: str | Path = OUTPUTS,
) -> Comparison:
    """Return how groups of runs compare.

    `runs` are names as `lmexp runs` takes them: runs, projects, sweeps, tags, patterns; none means all. `at` is "end",
    or an axis with an optional place: "tokens", "tokens=1e6", "flops", "seconds", "steps". `baseline` is a group's
    letter, a run, or a condition; without it, the group whose first run is oldest.

    Raises:
        RunError: nothing can be compared; says why and what to do.
    """
    entries = select([runs] if isinstance(runs, str) else runs, where=where, outputs=outputs)
    if not entries:
        raise RunError(f"there are no runs to compare below {outputs}/")
    return compare_entries(entries, metric=metric, baseline=baseline, better=better, at=at, paired=paired)


def compare_entries(
    entries: Sequence[Entry],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    better: str | None = None,
    at: str | None = None,
    paired: bool = False,
    refuse: bool = True,
) -> Comparison:
    """Return how groups of these runs compare; without `refuse`, also when nothing can be put beside the baseline.

    Raises:
        RunError: nothing can be compared; says why and what to do.
    """
    metric = metric or default_metric(entries)
    require_metric(metric, entries)
    direction = direction_of(metric, better)
    axis, place = _place(at, entries, metric)
    left_out: list[str] = []
    scored = _scored(entries, metric, axis, place, left_out)
    if not scored:
        raise RunError("no run can be compared:\n" + "\n".join(left_out[:20]))
    groups = _groups(scored, direction)
    chosen = _baseline(baseline, groups)
    at_text = "the end of training" if axis is None else f"{number(place)} {AXES[axis]}"
    result = Comparison(
        metric=metric,
        better=direction.value,
        unit=unit_of(metric),
        at=at_text,
        baseline=chosen.id if len(groups) > 1 else None,
        groups=groups,
        differences=[],
        left_out=left_out,
        notes=_notes(groups),
        entries=list(entries),
    )
    others = [group for group in groups if group is not chosen]
    reasons = {group.id: unlike(group.entries[0], chosen.entries[0], metric, at_end=at is None) for group in others}
    alike = [group for group in others if reasons[group.id] is None]
    if refuse and others and not alike:
        why = [f"these cannot be put beside {chosen.id}:", *dict.fromkeys(map(str, reasons.values()))]
        raise RunError("\n".join([*why, *_by_letter(groups)[:10]]))
    result.left_out += [f"{id} cannot be put beside {chosen.id}: {reason}" for id, reason in reasons.items() if reason]
    result.differences = differences(alike, chosen, direction, unit_of(metric), paired=paired)
    return result


def _place(at: str | None, entries: Sequence[Entry], metric: str) -> tuple[str | None, float]:
    """Return the axis and the place on it where runs are put side by side; None for the end of each run."""
    if at is None or at == "end":
        return None, math.nan
    axis, _, text = at.partition("=")
    if axis not in AXES:
        raise RunError(f"--at {one_line(at)}: choose end, {', '.join(AXES)}, or a place such as tokens=1e6")
    if text:
        try:
            place = float(text.replace(",", "").replace("_", ""))
        except ValueError:
            place = math.nan
        if not place > 0 or math.isinf(place):
            raise RunError(f"--at {one_line(at)}: '{one_line(text)}' is not a number above 0")
        return axis, place
    ends = [read_curves(entry).points(metric, axis)[0][-1:] for entry in entries if entry.status == "done"]
    reached = [end[0] for end in ends if end]
    if not reached:
        raise RunError(f"--at {axis}: no finished run has a curve of {metric} along it")
    return axis, min(reached)


def _scored(
    entries: Sequence[Entry], metric: str, axis: str | None, place: float, left_out: list[str]
) -> list[tuple[Entry, float]]:
    """Return the runs that have a number, one a seed; the others are named in `left_out`."""
    scored: dict[tuple[str, Any], tuple[Entry, float]] = {}
    for entry in entries:
        value = entry.metrics.get(metric) if axis is None else read_curves(entry).value_at(metric, axis, place)
        reason = _why_not(entry, metric, axis, place, value)
        if reason is not None:
            left_out.append(f"{one_line(entry.id)}: {reason}")
            continue
        seed = entry.brief.get("seed")
        same = scored.get((entry.group, seed))
        if same is not None:
            left_out.append(
                f"{one_line(same[0].id)}: {one_line(entry.id)} is the same experiment with the same seed, and newer"
            )
        assert value is not None
        scored[entry.group, seed] = (entry, value)
    return list(scored.values())


def _why_not(entry: Entry, metric: str, axis: str | None, place: float, value: float | None) -> str | None:
    if entry.brief["problem"]:
        return one_line(entry.brief["problem"])
    if axis is None and entry.status != "done":
        error = entry.brief.get("error")
        return f"{entry.status}" + (f": {one_line(str(error))[:100]}" if error else "")
    if value is None and axis is not None:
        return f"it has no {metric} at {number(place)} {AXES[axis]}"
    if value is None:
        return f"it has no {metric}"
    return f"its {metric} is not a finite number" if not math.isfinite(value) else None


def _groups(scored: Sequence[tuple[Entry, float]], direction: Direction) -> list[Group]:
    """Return the groups in the order of their means, the best first; letters go by age, so that they stay."""
    members: dict[str, list[tuple[Entry, float]]] = {}
    for entry, value in scored:
        members.setdefault(entry.group, []).append((entry, value))
    values = differing_keys([pairs[0][0] for pairs in members.values()])
    names = short_names(values[0]) if values else {}
    groups = []
    for place, pairs in enumerate(members.values()):
        scores = [Score(entry.id, entry.brief.get("seed"), value) for entry, value in pairs]
        spread = statistics.spread([score.value for score in scores])
        label = " ".join(f"{names[name]}={number(value)}" for name, value in values[place].items() if value is not None)
        groups.append(
            Group(
                id=letters(place),
                values=values[place],
                label=label or pairs[0][0].title,
                scores=scores,
                entries=[entry for entry, _ in pairs],
                mean=spread.mean,
                sd=spread.sd,
                low=spread.low,
                high=spread.high,
            )
        )
    return sorted(groups, key=lambda group: group.mean, reverse=direction is Direction.higher)


def letters(place: int) -> str:
    """Return A, B, ..., Z, AA, AB, ..."""
    name = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _baseline(text: str | None, groups: Sequence[Group]) -> Group:
    if text is None:
        return min(groups, key=_letters)
    found = [group for group in groups if text in (group.id, group.label)]
    if not found:
        found = [group for group in groups if any(text in (e.id, e.path.name, str(e.path)) for e in group.entries)]
    if not found:
        found = [group for group in groups if any(text in entry.id for entry in group.entries)]
    if not found and "=" in text:
        holds = parse_where(text)[0] if "==" in text else _equals(text)
        found = [group for group in groups if holds(group.entries[0])]
    if len(found) == 1:
        return found[0]
    count = "no group" if not found else f"{len(found)} groups"
    wrong = f"--baseline {one_line(text)} means {count}; choose a letter, or a run of the group:"
    raise RunError("\n".join([wrong, *_by_letter(groups)]))


def _by_letter(groups: Sequence[Group]) -> list[str]:
    """Return a line a group, from A on."""
    return [f"{group.id}  {one_line(group.label)}" for group in sorted(groups, key=_letters)]


def _letters(group: Group) -> tuple[int, str]:
    return len(group.id), group.id


def _equals(text: str) -> Any:
    """Return the condition key=value, as it is written for `lmexp train`."""
    key, _, value = text.partition("=")
    return lambda entry: str(look_up(entry, key)) == value or number(look_up(entry, key)) == value


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


def _notes(groups: Sequence[Group]) -> list[str]:
    """Return what a reader should know before believing: code and packages that differ between the groups."""
    notes = []
    codes = {entry.brief.get("source_hash") for group in groups for entry in group.entries}
    if len(codes) > 1:
        notes.append(f"the runs were trained by {len(codes)} versions of the code: lmexp compare --explain A B")
    return notes
