"""What a report says, as plain values: the page, the Markdown and the figures are made from it."""

from collections.abc import Sequence
from typing import Any

from lmexp.config.explain import text_of
from lmexp.config.store import flat
from lmexp.errors import RunError
from lmexp.runs.compare import Comparison, compare_entries
from lmexp.runs.curves import Curves, read_curves
from lmexp.runs.explain import ENVIRONMENT
from lmexp.runs.folder import now
from lmexp.runs.index import Entry
from lmexp.runs.text import number

VERSION = 1
MOST_POINTS = 250
MOST_SERIES = 8
MOST_SAMPLES = 12
ALWAYS = ("train/loss_nats", "val/loss_nats", "val/bits_per_byte")
AXIS_NAMES = {"steps": "step"}


def report_content(
    entries: Sequence[Entry], *, title: str, command: str, sweep: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Return the content of a report over runs; `options` are those of `compare`.

    `sweep` is what is to be said of the sweep that they are of; what it knows of the importance of keys counts more
    than what the runs alone say.

    Runs that cannot be compared are in it too: failures, runs without the metric, groups of other data.

    Raises:
        RunError: there are no runs, or a metric or a baseline that does not exist was asked for.
    """
    if not entries:
        raise RunError("there are no runs to report on")
    comparison, notes = _compare(entries, options)
    groups = comparison.groups if comparison else []
    letter = {entry.path: group.id for group in groups for entry in group.entries}
    scores = {score.run: score.value for group in groups for score in group.scores}
    environments = [_environment(entry) for entry in entries]
    common, differing = _shared(environments)
    config_keys = list(groups[0].values) if groups else []
    series = _series(entries, comparison)
    return {
        "version": VERSION,
        "title": title,
        "created": now(),
        "command": command,
        "metric": comparison.metric if comparison else "",
        "better": comparison.better if comparison else "lower",
        "unit": comparison.unit if comparison else "",
        "at": comparison.at if comparison else "",
        "baseline": comparison.baseline if comparison else None,
        "notes": notes,
        "groups": _groups(comparison) if comparison else [],
        "runs": [
            _run(entry, letter.get(entry.path), scores.get(entry.id), config_keys, environment, differing, series)
            for entry, environment in zip(entries, environments, strict=True)
        ],
        "keys": {key: text for key in config_keys if (text := text_of(key))},
        "importance": (sweep or {}).get("importance") or (importance(comparison) if comparison else []),
        "sweep": sweep,
        "environment": {"common": common, "differing": differing},
    }


def importance(comparison: Comparison) -> list[dict[str, Any]]:
    """Return, for each key that differs, the share of the metric's variance that it explains alone.

    The share is epsilon squared: between-values over total variance, less what chance explains. Numbers with more than
    six values are put into six classes of equal size. Interactions are not seen.
    Source: Kelley 1935.
    """
    pairs = [(group.values, score.value) for group in comparison.groups for score in group.scores]
    rows = []
    for key in comparison.groups[0].values if len(comparison.groups) > 1 else ():
        share = _explained([values.get(key) for values, _ in pairs], [value for _, value in pairs])
        if share is not None:
            rows.append({"key": key, "share": share, "text": f"explains {share:.0%} of the variance alone"})
    return sorted(rows, key=lambda row: -row["share"])


def _explained(keys: Sequence[Any], values: Sequence[float]) -> float | None:
    classes: dict[Any, list[float]] = {}
    for key, value in zip(_classes(keys), values, strict=True):
        classes.setdefault(key, []).append(value)
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    freedom = len(values) - len(classes)
    if freedom < 1 or total == 0:
        return None
    within = sum(sum((value - sum(part) / len(part)) ** 2 for value in part) for part in classes.values())
    return max(0.0, 1 - (within / freedom) / (total / (len(values) - 1)))


def _classes(keys: Sequence[Any]) -> list[Any]:
    numbers = sorted({key for key in keys if isinstance(key, int | float) and not isinstance(key, bool)})
    if len(numbers) <= 6:
        return [number(key) for key in keys]
    rank = {key: place * 6 // len(numbers) for place, key in enumerate(numbers)}
    return [rank.get(key) for key in keys]


def _compare(entries: Sequence[Entry], options: dict[str, Any]) -> tuple[Comparison | None, list[str]]:
    asked = {key: value for key, value in options.items() if value}
    try:
        comparison = compare_entries(entries, **options, refuse=False)
    except RunError as error:
        if asked:
            raise
        return None, str(error).splitlines()
    return comparison, [*comparison.notes, *comparison.left_out]


def _groups(comparison: Comparison) -> list[dict[str, Any]]:
    found = {difference.group: difference for difference in comparison.differences}
    rows = []
    for group in comparison.groups:
        difference = found.get(group.id)
        rows.append(
            {
                **{key: getattr(group, key) for key in ("id", "label", "values", "n", "mean", "sd", "low", "high")},
                "difference": None
                if difference is None
                else {key: getattr(difference, key) for key in ("value", "low", "high", "p", "verdict", "text")},
            }
        )
    return rows


def _run(
    entry: Entry,
    group: str | None,
    value: float | None,
    config_keys: Sequence[str],
    environment: dict[str, Any],
    differing: Sequence[str],
    series: Sequence[str],
) -> dict[str, Any]:
    curves = read_curves(entry, series, most=MOST_POINTS)
    samples = [row for row in entry.folder.samples if isinstance(row, dict) and isinstance(row.get("text"), str)]
    last = max((row["step"] for row in samples if isinstance(row.get("step"), int)), default=None)
    return {
        "id": entry.id,
        "group": group,
        "name": entry.title,
        "project": entry.path.parent.name,
        "seed": entry.brief.get("seed"),
        "status": entry.status,
        "created": entry.brief.get("created"),
        "tags": entry.brief["tags"],
        "value": value,
        "metrics": entry.metrics,
        "tokens": entry.brief.get("tokens"),
        "flops": entry.brief.get("flops"),
        "seconds": entry.brief.get("seconds_trained"),
        "parameters": entry.brief.get("parameters"),
        "config": {key: entry.config.get(key, entry.get(key)) for key in config_keys},
        "environment": {key: environment.get(key) for key in differing},
        "error": entry.brief["problem"] or (entry.brief.get("error") if entry.status == "failed" else None),
        "curves": _columns(curves),
        "samples": [
            {"step": last, "prompt": str(row.get("prompt", "")), "text": row["text"]}
            for row in samples
            if row.get("step") == last
        ][:MOST_SAMPLES],
    }


def _columns(curves: Curves) -> dict[str, Any]:
    axes = {AXIS_NAMES.get(axis, axis): values for axis, values in curves.axes.items()}
    return {**axes, "series": curves.series}


def _series(entries: Sequence[Entry], comparison: Comparison | None) -> list[str]:
    """Return the metrics whose curves a report holds: what is compared, the losses, then the other evaluations."""
    first = [comparison.metric] if comparison else []
    others = sorted({key for entry in entries for key in entry.metrics if key.startswith("val/")})
    return list(dict.fromkeys([*first, *ALWAYS, *others]))[:MOST_SERIES]


def _environment(entry: Entry) -> dict[str, Any]:
    record = {key: entry.record.get(key) for key in ENVIRONMENT if entry.record.get(key) is not None}
    return {key: number(value) for key, value in flat(record).items()}


def _shared(environments: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    keys = dict.fromkeys(key for environment in environments for key in environment)
    common = {key: environments[0].get(key) for key in keys if len({str(env.get(key)) for env in environments}) == 1}
    return common, [key for key in keys if key not in common]
