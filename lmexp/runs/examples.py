"""Two groups of runs on the very same examples: what `lmexp evaluate` kept in the run folders, put side by side.

Pairs take away what makes an example hard for everybody, so small differences show. The interval is over examples; how
much a seed changes is what `lmexp compare` without --examples says. Where a group has several seeds, an example counts
with its mean over them. Source: Koehn 2004 for paired resampling.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmexp.errors import RunError
from lmexp.runs import statistics
from lmexp.runs.index import Entry
from lmexp.runs.likeness import differing_keys, short_names
from lmexp.runs.listing import OUTPUTS, select
from lmexp.runs.metrics import Direction, direction_of
from lmexp.runs.text import number, one_line

COLUMNS = {
    "accuracy": "hit",
    "loss_nats": "nll_nats",
    "bits_per_byte": "nll_nats",
    "perplexity": "nll_nats",
    "bleu": "sentence_bleu",
    "chrf": "sentence_chrf",
    **{name: name for name in ("exact_match", "rouge1", "rouge2", "rougeL")},
}
"""What each example has of a metric."""
IN_WORDS = {
    "hit": "right answers",
    "nll_nats": "loss of an example, nats",
    "sentence_bleu": "BLEU of a sentence",
    "sentence_chrf": "chrF of a sentence",
}


@dataclass(frozen=True)
class OnExamples:
    """A group beside the baseline, example by example."""

    group: str
    baseline: str
    metric: str
    column: str
    split: str
    num_examples: int
    value: float
    """Mean of group - baseline."""
    low: float
    high: float
    p: float
    """By flipping the signs of the differences."""
    num_higher: int
    num_lower: int
    text: str


def compare_examples(
    runs: Sequence[str] = (), *, metric: str | None = None, split: str = "test", outputs: str | Path = OUTPUTS
) -> list[OnExamples]:
    """Return each group beside the oldest one on the examples that both were evaluated on.

    Raises:
        RunError: fewer than two groups have an evaluation of the same data; says what to do.
    """
    entries = select(runs, outputs=outputs)
    found = [(entry, kept) for entry in entries if (kept := _newest(entry, split))]
    groups: dict[str, list[tuple[Entry, dict[str, Any]]]] = {}
    for entry, kept in found:
        groups.setdefault(entry.group, []).append((entry, kept))
    if len(groups) < 2:
        there = ", ".join(one_line(entry.path.name) for entry, _ in found) or "none"
        raise RunError(
            f"two groups of runs with an evaluation of the {split} split are needed, and there are {len(groups)} "
            f"({there}); measure the others: lmexp evaluate RUN"
        )
    first, *others = groups.values()
    labels = _labels([pairs[0][0] for pairs in groups.values()])
    metric = metric or _metric(first[0][1]["splits"][split])
    column = COLUMNS.get(metric.rpartition("/")[2])
    if column is None:
        raise RunError(f"--metric {one_line(metric)}: no example has one; choose {', '.join(COLUMNS)}")
    return [
        _beside(pairs, first, labels[place], labels[0], metric.rpartition("/")[2], column, split)
        for place, pairs in enumerate(others, start=1)
    ]


def as_text(rows: Sequence[OnExamples]) -> str:
    """Return a statement a line."""
    return "\n".join(row.text for row in rows)


def _newest(entry: Entry, split: str) -> dict[str, Any] | None:
    """Return the newest evaluation of a run that has this split, example by example."""
    newest: dict[str, Any] | None = None
    for path in entry.folder.evaluations.glob("*.json"):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if split in kept.get("splits", {}) and (newest is None or kept["created"] > newest["created"]):
            newest = kept
    return newest


def _metric(kept: dict[str, Any]) -> str:
    there = [name for name in COLUMNS if name in kept["metrics"]]
    return next((name for name in ("accuracy", "bleu", "bits_per_byte") if name in there), there[0])


def _labels(entries: Sequence[Entry]) -> list[str]:
    values = differing_keys(entries)
    names = short_names(values[0])
    shown = [" ".join(f"{names[key]}={number(value)}" for key, value in of_one.items()) for of_one in values]
    return [label or one_line(entry.title) for label, entry in zip(shown, entries, strict=True)]


def _beside(
    mine: Sequence[tuple[Entry, dict[str, Any]]],
    base: Sequence[tuple[Entry, dict[str, Any]]],
    label: str,
    base_label: str,
    metric: str,
    column: str,
    split: str,
) -> OnExamples:
    fingerprints = {(kept["data_fingerprint"], kept["windows"]) for _, kept in (*mine, *base)}
    if len(fingerprints) > 1:
        raise RunError(
            f"{label} and {base_label} were not evaluated on the same examples: give lmexp evaluate the same data"
        )
    one, other = (
        np.mean([_column(entry, kept["splits"][split], column) for entry, kept in pairs], axis=0)
        for pairs in (mine, base)
    )
    if len(one) != len(other):
        raise RunError(f"{label} has {len(one):,} examples and {base_label} {len(other):,}: they were cut differently")
    differences = one - other
    low, high = statistics.bootstrap_interval(differences)
    p, value = statistics.sign_flip_p(differences), float(differences.mean())
    is_higher_better = column != "nll_nats" and direction_of(metric) is Direction.higher
    verdict = "cannot tell which is better"
    if p < statistics.ALPHA and low * high > 0:
        verdict = f"{label if (value > 0) == is_higher_better else base_label} is better"
    means = f"{label} {one.mean():.4f}, {base_label} {other.mean():.4f}"
    text = (
        f"{verdict}: on the same {len(one):,} examples of {split}, {IN_WORDS.get(column, column)}: {means}, "
        f"difference {value:+.4f} [{low:+.4f}, {high:+.4f}], p = {p:.2g}; higher on "
        f"{int((differences > 0).sum()):,}, lower on {int((differences < 0).sum()):,}"
    )
    return OnExamples(
        group=label,
        baseline=base_label,
        metric=metric,
        column=column,
        split=split,
        num_examples=len(one),
        value=value,
        low=low,
        high=high,
        p=p,
        num_higher=int((differences > 0).sum()),
        num_lower=int((differences < 0).sum()),
        text=text,
    )


def _column(entry: Entry, kept: dict[str, Any], column: str) -> np.ndarray:
    if column not in kept["examples"]:
        there = ", ".join(name for name in kept["examples"] if name in COLUMNS.values())
        raise RunError(f"{one_line(entry.path.name)}: its evaluation has no {column}; it has {there}")
    return np.array(kept["examples"][column], dtype=float)
