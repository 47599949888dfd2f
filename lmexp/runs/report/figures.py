"""Learning curves of a report as a figure for a paper: SVG, PNG or PDF, through matplotlib (extra report)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmexp.errors import MissingPackageError, RunError, StorageError
from lmexp.runs.curves import Curves
from lmexp.runs.text import one_line

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart; dashes change after each round of it."""
DASHES = ("-", "--", ":", "-.")
SUFFIXES = (".svg", ".png", ".pdf")
MOST_GROUPS = 12
GRID = 200


def write_figure(content: Mapping[str, Any], path: Path, *, axis: str = "tokens") -> None:
    """Write the mean curve of each group, with a band from the lowest to the highest seed.

    Raises:
        MissingPackageError: matplotlib is not installed.
        RunError: no run has a curve of the metric.
        StorageError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib", "report") from None
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    for place, group in enumerate(content["groups"][:MOST_GROUPS]):
        curves = [_points(run, content["metric"], axis) for run in content["runs"] if run["group"] == group["id"]]
        band = _band([curve for curve in curves if len(curve[0]) > 1])
        if band is None:
            continue
        xs, low, mean, high = band
        color, dash = COLORS[place % len(COLORS)], DASHES[place // len(COLORS) % len(DASHES)]
        label = f"{group['id']}  {one_line(group['label'])} (n = {group['n']})".replace("$", r"\$")
        axes.plot(xs, mean, dash, color=color, label=label, linewidth=1.6)
        axes.fill_between(xs, low, high, color=color, alpha=0.2, linewidth=0)
        drawn += 1
    if not drawn:
        raise RunError(f"no run has a curve of {content['metric']} along {axis}")
    axes.set_xlabel({"flops": "FLOPs", "seconds": "seconds of training"}.get(axis, axis))
    axes.set_ylabel(content["metric"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    try:
        figure.savefig(path, dpi=200)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from None


def _points(run: Mapping[str, Any], metric: str, axis: str) -> tuple[list[float], list[float]]:
    columns = {key: values for key, values in run["curves"].items() if key != "series"}
    return Curves(columns, run["curves"]["series"]).points(metric, axis)


def _band(
    curves: Sequence[tuple[list[float], list[float]]],
) -> tuple[list[float], list[float], list[float], list[float]] | None:
    """Return x, lowest, mean and highest of curves where all of them are known."""
    import numpy as np

    if not curves:
        return None
    start, end = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
    if start >= end:
        return None
    grid = np.linspace(start, end, GRID)
    values = np.array([np.interp(grid, xs, ys) for xs, ys in curves])
    return grid.tolist(), values.min(0).tolist(), values.mean(0).tolist(), values.max(0).tolist()
