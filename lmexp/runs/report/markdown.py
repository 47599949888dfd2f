"""A report as Markdown: the tables of the page for a wiki, an issue or a paper's draft."""

from collections.abc import Mapping, Sequence
from typing import Any

from lmexp.runs.text import number, one_line

MARKS = {"better": "▲", "worse": "▼", "cannot tell": "?", "no statement": "·"}
ESCAPED = "\\`*_{}[]<>#|!"


def as_markdown(content: Mapping[str, Any]) -> str:
    """Return a report as Markdown in which no run name or text is markup."""
    parts = [f"# {_plain(content['title'])}", f"{len(content['runs'])} runs, {content['created'][:16]} UTC"]
    if content["groups"]:
        parts += [f"## {_plain(content['metric'])}, {content['better']} is better, at {content['at']}"]
        parts += [_groups(content), "\n".join(_statements(content))]
    parts += ["## Notes", "\n".join(f"- {_plain(note)}" for note in content["notes"])] if content["notes"] else []
    if content.get("sweep"):
        parts += ["## How the search went", _history(content["sweep"])]
    if content["importance"]:
        rows = [[_plain(row["key"]), f"{row['share']:.0%}"] for row in content["importance"]]
        parts += ["## What explains the variance", _table(["key", "share"], rows)]
    failed = [run for run in content["runs"] if run["error"]]
    if failed:
        rows = [[_plain(run["id"]), run["status"], _plain(run["error"])] for run in failed]
        parts += ["## Failures", _table(["run", "status", "error"], rows)]
    if content["environment"]["common"]:
        rows = [[_plain(key), _plain(number(value))] for key, value in content["environment"]["common"].items()]
        parts += ["## Environment", _table(["of all runs", ""], rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _history(sweep: Mapping[str, Any]) -> str:
    rows = [
        [str(row["trial"]), row["state"], _figure(row["value"]), _figure(row["best"]), _plain(row["choices"])]
        for row in sweep["history"]
    ]
    return _table(["trial", "state", _plain(sweep["metric"]), "best so far", "choices"], rows)


def _groups(content: Mapping[str, Any]) -> str:
    has_differences = any(group["difference"] for group in content["groups"])
    titles = ["", "group", "n", "mean", "95 % interval", "sd", *([f"against {content['baseline']}"] * has_differences)]
    rows = []
    for group in content["groups"]:
        row = [group["id"], _plain(group["label"]), str(group["n"]), _figure(group["mean"])]
        row += [_interval(group["low"], group["high"]), _figure(group["sd"])]
        if has_differences:
            row.append(_against(group["difference"]))
        rows.append(row)
    return _table(titles, rows)


def _against(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return ""
    interval = _interval(difference["low"], difference["high"])
    return " ".join(filter(None, [_figure(difference["value"]), interval, MARKS[difference["verdict"]]]))


def _statements(content: Mapping[str, Any]) -> list[str]:
    found = [group["difference"] for group in content["groups"] if group["difference"]]
    return [f"- {MARKS[difference['verdict']]} {_plain(difference['text'])}" for difference in found]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    return "".join(f"\\{character}" if character in ESCAPED else character for character in one_line(str(text)))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"\\[{_figure(low)}, {_figure(high)}\\]"
