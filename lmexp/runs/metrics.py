"""What is known of metrics by their names: which way is better, and their unit."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from enum import Enum

from lmexp.errors import RunError
from lmexp.runs.index import Entry

PREFERRED = ("val/bits_per_byte", "val/loss_nats", "val/accuracy", "val/perplexity")
PER_TOKEN = ("loss_nats", "perplexity")
"""Metrics that mean something else with another tokenizer."""


class Direction(Enum):
    """Which way a metric is better."""

    lower = "lower"
    higher = "higher"


KNOWN = {
    Direction.lower: (
        *("loss", "loss_nats", "bits_per_byte", "perplexity", "nll", "error", "error_rate", "ece", "calibration_error"),
        *("gradient_norm", "seconds", "seconds_trained", "memory_bytes", "peak_memory_bytes"),
    ),
    Direction.higher: (
        *("accuracy", "f1", "macro_f1", "f1_macro", "precision", "recall", "exact_match", "bleu", "chrf", "rouge"),
        *("rouge1", "rouge2", "rougeL", "rougeLsum", "auroc", "tokens_per_second", "margin_nats", "chosen_reward"),
    ),
}
UNITS = {
    "loss_nats": "nats",
    "bits_per_byte": "bits per byte",
    "tokens_per_second": "tokens per second",
    "seconds": "seconds",
    "bleu": "BLEU",
    "chrf": "chrF",
}


def last_part(metric: str) -> str:
    """Return what is measured, without the split: bits_per_byte."""
    return metric.rsplit("/", 1)[-1]


def direction_of(metric: str, better: str | None = None) -> Direction:
    """Return which way a metric is better, as said or as its name says.

    Raises:
        RunError: the name says nothing: asks for --better.
    """
    if better is not None:
        if better not in Direction.__members__:
            raise RunError(f"--better {better}: choose lower or higher")
        return Direction[better]
    for direction, names in KNOWN.items():
        if last_part(metric) in names:
            return direction
    raise RunError(f"is a lower or a higher {metric} better? say so: --better lower or --better higher")


def unit_of(metric: str) -> str:
    """Return the unit of a metric, its name where it has none."""
    part = last_part(metric)
    return UNITS.get(part, part.replace("_", " "))


def default_metric(entries: Sequence[Entry]) -> str:
    """Return the metric that most finished runs have, of those that are usually compared."""
    done = [entry for entry in entries if entry.status == "done"] or list(entries)
    counts = Counter(metric for entry in done for metric in entry.metrics)
    best = max(PREFERRED, key=lambda metric: counts[metric])
    if counts[best]:
        return best
    others = sorted({name for entry in done for name in entry.metrics})
    if not others:
        raise RunError("no run has a metric yet")
    raise RunError(f"choose what to compare: --metric {' | '.join(others[:12])}")


def require_metric(metric: str, entries: Sequence[Entry]) -> None:
    """Raise when no run has a metric, with the nearest name.

    Raises:
        RunError: names those that are there.
    """
    there = sorted({name for entry in entries for name in entry.metrics})
    if metric not in there:
        near = get_close_matches(metric, there, 1)
        hint = f"did you mean {near[0]}?" if near else f"they have {', '.join(there[:12]) or 'none'}"
        raise RunError(f"no run has the metric '{metric}'; {hint}")
