"""A confusion matrix as a picture: an SVG that every browser shows, light or dark."""

from collections.abc import Sequence
from html import escape

CELL, MARGIN, LETTER = 64, 16, 7.2
"""Pixels of a cell and around the picture, and of a letter."""
MOST_NUMBERS = 30
"""Labels up to which the numbers are written into the cells."""
LONGEST_NAME = 24


def as_svg(labels: Sequence[str], matrix: Sequence[Sequence[int]], *, title: str) -> str:
    """Return the matrix: a row for each label of the texts, a column for each that the model gave them, shaded by the
    share of the row.
    """
    count = len(labels)
    cell = CELL if count <= 12 else max(12, 12 * CELL // count)
    names = [label if len(label) <= LONGEST_NAME else label[: LONGEST_NAME - 1] + "\u2026" for label in labels]
    left = MARGIN + 24 + int(max(len(name) for name in names) * LETTER)
    top = MARGIN + 44 + int(max(len(name) for name in names) * LETTER * 0.75)
    width, height = left + count * cell + MARGIN + 60, top + count * cell + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<style>text{fill:#1a1d21}rect.back{fill:#fff}@media(prefers-color-scheme:dark)"
        "{text{fill:#e6e8eb}rect.back{fill:#14171a}}</style>",
        f'<title>{escape(title)}</title><rect class="back" width="100%" height="100%"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 12}" font-weight="600">{escape(title)}: rows are the labels of the texts, '
        "columns what the model says</text>",
    ]
    for number, name in enumerate(names):
        middle = number * cell + cell / 2
        x, y = left + middle, top - 8
        parts.append(f'<text x="{x:.0f}" y="{y}" transform="rotate(-40 {x:.0f} {y})">{escape(name)}</text>')
        parts.append(f'<text x="{left - 8}" y="{top + middle + 4:.0f}" text-anchor="end">{escape(name)}</text>')
    for row, counts in enumerate(matrix):
        total = max(1, sum(counts))
        for column, number in enumerate(counts):
            parts.append(_cell(left + column * cell, top + row * cell, cell, number, number / total, count))
    return "\n".join([*parts, "</svg>\n"])


def _cell(x: int, y: int, size: int, number: int, share: float, labels: int) -> str:
    shade = f'<rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" rx="3" fill="#2563eb" '
    shade += f'fill-opacity="{0.06 + 0.94 * share:.2f}"><title>{number:,} ({share:.1%})</title></rect>'
    if labels > MOST_NUMBERS:
        return shade
    color = ' style="fill:#fff"' if share > 0.45 else ""
    middle = x + size / 2 - 1
    return f'{shade}<text x="{middle:.0f}" y="{y + size / 2 + 3:.0f}" text-anchor="middle"{color}>{number:,}</text>'
