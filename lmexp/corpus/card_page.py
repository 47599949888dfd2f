"""The card as one page of HTML with plots, which needs nothing but itself."""

import html
import json
from collections.abc import Iterable, Iterator
from typing import Any

STYLE = """
:root { color-scheme: light dark; --back: light-dark(#fbfaf7, #15181c); --ink: light-dark(#1f2328, #e5e8ec);
  --dim: light-dark(#5b636e, #a0a9b5); --line: light-dark(#e3e0d8, #30363e); --bar: light-dark(#0072b2, #56a9e8);
  --drop: light-dark(#c45200, #ff8f52) }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { margin-bottom: 0 } h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem } p { color: var(--dim); margin: .3rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.number, th.number { text-align: right } code, pre { font-size: .85em } pre { overflow: auto }
svg { width: 100%; height: auto; overflow: visible } svg text { fill: var(--ink); font-size: 13px }
svg .bar { fill: var(--bar) } svg .drop { fill: var(--drop) } svg .count { fill: var(--dim) }
details { margin: .3rem 0 } summary { cursor: pointer } li { margin: .2rem 0; overflow-wrap: anywhere }
"""
BAR_HEIGHT, LABEL_WIDTH, PLOT_WIDTH = 22, 230, 560


def page(content: dict[str, Any]) -> str:
    """Return the card as a page."""
    return "\n".join(_parts(content)) + "\n"


def _parts(content: dict[str, Any]) -> Iterator[str]:
    from lmexp.corpus.card import lengths

    name = html.escape(content["name"])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: data card</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main>'
    splits = ", ".join(f"{split} {one['documents']:,}" for split, one in content["splits"].items())
    size = f"{content['documents']:,} documents, {content['bytes'] / 1e6:,.2f} MB of text"
    yield f"<h1>{name}</h1><p>{size} ({splits})</p>"
    yield f"<p>Fingerprint <code>{content['fingerprint']}</code></p>"
    yield "<h2>Sources</h2>"
    yield _table(
        ["source", "licence", "files", "MB read", "documents read", "kept", "MB kept"],
        [
            [
                *(source, one["license"] or "not stated", one["files"], one["bytes_read"] / 1e6),
                *(one["documents_read"], one["documents"], one["bytes"] / 1e6),
            ]
            for source, one in content["sources"].items()
        ],
    )
    yield "<h2>Documents after each stage</h2>"
    yield _bars([(one["name"], one["documents"]) for one in content["stages"]])
    yield "<h2>MB after each stage</h2>"
    yield _bars([(one["name"], one["bytes"] / 1e6) for one in content["stages"]])
    dropped = [
        (reason, count, stage["examples"][reason])
        for stage in content["stages"]
        for reason, count in stage["dropped"].items()
    ]
    if dropped:
        yield "<h2>What was dropped, and why</h2>"
        yield _bars([(reason, count) for reason, count, _ in dropped], kind="drop")
        for reason, _, examples in dropped:
            items = "".join(f"<li><code>{html.escape(e['id'])}</code> {html.escape(e['text'])}</li>" for e in examples)
            yield f"<details><summary>Examples: {html.escape(reason)}</summary><ul>{items}</ul></details>"
    if content["redacted"]:
        yield "<h2>Personal data made placeholders</h2>"
        yield _bars(content["redacted"].items())
    if content["audit"]:
        yield f"<h2>Still marked by presidio in {content['audit']['documents']:,} documents</h2>"
        yield _bars(content["audit"]["finds"].items())
    yield "<h2>Languages, in documents</h2>"
    yield _bars([(language or "not asked", count) for language, count in list(content["languages"].items())[:20]])
    yield "<h2>Lengths in characters, in documents</h2>"
    yield _bars(lengths(content))
    if content["num_problems"]:
        yield f"<h2>Not read: {content['num_problems']:,}</h2><ul>"
        for suffix, count in content["not_read"].items():
            yield f"<li>{count:,} ending in {html.escape(suffix)}: a format that is not read here</li>"
        for one in content["problems"]:
            place = html.escape(f"{one['source']}/{one['file']}")
            yield f"<li><code>{place}</code> {html.escape(one['problem'])}</li>"
        yield "</ul>"
    config = html.escape(json.dumps(content["config"], indent=1, ensure_ascii=False))
    yield f"<h2>Config</h2><details><summary>All keys</summary><pre>{config}</pre></details>"
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    yield f"<p>Made with {html.escape(versions)}.</p></main></body></html>"


def _bars(rows: Iterable[tuple[str, float]], kind: str = "bar") -> str:
    """Return a plot of horizontal bars, each with its label and its number."""
    rows = list(rows)
    largest = max((value for _, value in rows), default=0) or 1
    lines = []
    for number, (label, value) in enumerate(rows):
        y, width = number * BAR_HEIGHT, PLOT_WIDTH * value / largest
        name = html.escape(label if len(label) < 34 else label[:32] + "…")
        lines.append(
            f'<text x="{LABEL_WIDTH - 8}" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y + 3}" width="{width:.1f}" height="15" rx="2"/>'
            f'<text class="count" x="{LABEL_WIDTH + width + 6:.1f}" y="{y + 15}">{shown(value)}</text>'
        )
    text = html.escape("; ".join(f"{label} {value:,.4g}" for label, value in rows), quote=True)
    size = f"0 0 {LABEL_WIDTH + PLOT_WIDTH + 110} {max(1, len(rows)) * BAR_HEIGHT}"
    return f'<svg viewBox="{size}" role="img" aria-label="{text}">{"".join(lines)}</svg>'


def _table(head: list[str], rows: list[list[Any]]) -> str:
    numbers = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(head))]
    kinds = [' class="number"' if is_number else "" for is_number in numbers]
    top = "".join(f"<th{kind}>{html.escape(cell)}</th>" for kind, cell in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{html.escape(shown(cell))}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def shown(cell: Any) -> str:
    """Return a number with its thousands apart, or a text as it is."""
    return f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
