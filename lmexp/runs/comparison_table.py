"""A comparison for a terminal: aligned numbers, curves in a line, and what can be said, in words and marks."""

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lmexp.runs.compare import Comparison
from lmexp.runs.curves import read_curves
from lmexp.runs.groups import Group as RunGroup
from lmexp.runs.terminal import as_lines, width_of_terminal
from lmexp.runs.text import one_line, sparkline
from lmexp.runs.verdicts import BETTER, CANNOT_TELL, NO_STATEMENT, WORSE, Difference

MARKS = {BETTER: ("▲", "bold green"), WORSE: ("▼", "red"), CANNOT_TELL: ("?", "yellow"), NO_STATEMENT: ("·", "dim")}
MOST_GROUPS = 30
MOST_NOTES = 8


def as_text(comparison: Comparison, *, width: int | None = None) -> str:
    """Return a comparison as text that fits a terminal."""
    return as_lines(_layout(comparison, width or width_of_terminal()), width=width)


def _layout(comparison: Comparison, width: int) -> Group:
    found = {difference.group: difference for difference in comparison.differences}
    shown = _shown(comparison)
    title = f"{comparison.metric}, {comparison.better} is better, at {comparison.at}"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("group", overflow="fold")
    for name in ("n", "mean", "95 %", "sd"):
        table.add_column(name, justify="right", no_wrap=True)
    has_differences = any(difference.value is not None for difference in comparison.differences)
    if has_differences:
        table.add_column(Text(f"against {comparison.baseline}"), justify="right", no_wrap=True)
    has_curves = width >= 110
    if has_curves:
        table.add_column("curve", no_wrap=True)
    digits = _decimals(comparison)
    for group in shown:
        mark, style = MARKS[found[group.id].verdict] if group.id in found else ("", "")
        row = [Text(f"{mark:1} {group.id}", style), Text(one_line(group.label)), Text(str(group.n))]
        row += [Text(f"{group.mean:,.{digits}f}"), Text(_half(group, digits))]
        row.append(Text("" if group.sd is None else f"{group.sd:,.{digits}f}"))
        if has_differences:
            row.append(Text(_against(found.get(group.id), digits), style))
        if has_curves:
            row.append(Text(_curve(group, comparison.metric)))
        table.add_row(*row)
    parts: list[Text | Table | Padding] = [Text(title, "bold"), Text(), table]
    if len(shown) < len(comparison.groups):
        parts.append(Text(f"... {len(comparison.groups) - len(shown)} more groups: --json has all"))
    parts.append(Text())
    parts += [_sentence(found[group.id]) for group in shown if group.id in found]
    if len(comparison.groups) == 1:
        parts.append(Text(f"one group of {_runs(comparison.groups[0].n)}: there is nothing to put it beside"))
    tested = sum(difference.p is not None for difference in comparison.differences)
    if tested > 1:
        parts.append(Text(f"p-values hold for all {tested} comparisons together (Holm)", "dim"))
    parts += [Text(f"note: {note}", "yellow") for note in comparison.notes]
    if comparison.left_out:
        parts += [Text(), Text("left out", "bold")]
        parts += [Padding(Text(text), (0, 0, 0, 2)) for text in comparison.left_out[:MOST_NOTES]]
        if len(comparison.left_out) > MOST_NOTES:
            parts.append(Text(f"  ... and {len(comparison.left_out) - MOST_NOTES} more: --json has all"))
    return Group(*parts)


def _shown(comparison: Comparison) -> list[RunGroup]:
    """Return the best groups, and the baseline wherever it stands."""
    best = comparison.groups[:MOST_GROUPS]
    return best + [group for group in comparison.groups[MOST_GROUPS:] if group.id == comparison.baseline]


def _sentence(difference: Difference) -> Text:
    mark, style = MARKS[difference.verdict]
    p = "" if difference.p is None else f", p = {difference.p:.2g}"
    return Text.assemble((f"{mark} ", style), difference.text + p)


def _against(difference: Difference | None, digits: int) -> str:
    if difference is None or difference.value is None:
        return ""
    interval = "" if difference.low is None else f" [{difference.low:+,.{digits}f}, {difference.high:+,.{digits}f}]"
    return f"{difference.value:+,.{digits}f}{interval}"


def _half(group: RunGroup, digits: int) -> str:
    return "" if group.high is None else f"±{group.high - group.mean:,.{digits}f}"


def _decimals(comparison: Comparison) -> int:
    """Return how many decimals all numbers of the table get: four, fewer where they are large."""
    largest = max(abs(group.mean) for group in comparison.groups)
    return 4 if largest < 100 else 2 if largest < 10_000 else 0


def _curve(group: RunGroup, metric: str) -> str:
    return sparkline(read_curves(group.entries[0]).points(metric, "steps")[1])


def _runs(count: int) -> str:
    return f"{count} run" + ("s" if count > 1 else "")
