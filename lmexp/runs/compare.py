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
from lmexp.runs.groups import Group, baseline_of, by_letter, groups_of
from lmexp.runs.index import Entry
from lmexp.runs.likeness import unlike
from lmexp.runs.listing import OUTPUTS, select
from lmexp.runs.metrics import default_metric, direction_of, require_metric, unit_of
from lmexp.runs.text import number, one_line
from lmexp.runs.verdicts import NO_STATEMENT, Difference, differences


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
    groups = groups_of(scored, direction)
    chosen = baseline_of(baseline, groups)
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
        raise RunError("\n".join([*why, *by_letter(groups)[:10]]))
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


def _notes(groups: Sequence[Group]) -> list[str]:
    """Return what a reader should know before believing: code and packages that differ between the groups."""
    notes = []
    codes = {entry.brief.get("source_hash") for group in groups for entry in group.entries}
    if len(codes) > 1:
        notes.append(f"the runs were trained by {len(codes)} versions of the code: lmexp compare --explain A B")
    return notes
