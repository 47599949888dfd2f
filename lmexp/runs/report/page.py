"""Content in, one self-contained HTML page out.

The page loads nothing: style, scripts and numbers are inside, and a strict content-security policy lets only those run.
The content is data for page.js, never markup; strings from runs lose their control characters on the way.
What the content holds is decided by the caller; its keys are those that page.js reads.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

STYLES = ("vendor/uPlot.min.css", "page.css")
SCRIPTS = ("vendor/uPlot.iife.min.js", "board.js", "sweep.js", "curves.js", "parallel.js", "page.js")
CURVE_DIGITS = 6
# C0 and C1 without tab and newline, halves of surrogate pairs, and the marks that reorder the text around them.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
# Everything that could end a script element, or a line in an old JavaScript parser.
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page(content: Mapping[str, Any], *, live: bool = False) -> str:
    """Return the whole HTML page that shows `content`; `live` makes it ask its server for newer content."""
    parts = {
        "title": html.escape(_text(str(content.get("title") or "lmexp report"))),
        "live": "true" if live else "false",
        "policy": html.escape(policy(live=live)),
        "styles": "\n".join(f"<style>{_read(name)}</style>" for name in STYLES),
        "scripts": "\n".join(f"<script>{_read(name)}</script>" for name in SCRIPTS),
        "content": as_json(content),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def policy(*, live: bool = False) -> str:
    """Return the content-security policy: only the page's own scripts and styles, by hash, and no network."""
    rules = [
        "default-src 'none'",
        "script-src " + " ".join(_hash(name) for name in SCRIPTS),
        "style-src " + " ".join(_hash(name) for name in STYLES),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return "; ".join(rules + ["connect-src 'self'"] * live)


def as_json(content: Mapping[str, Any]) -> str:
    """Return `content` as JSON that is safe inside a script element: no markup, no control characters, no NaN."""
    return json.dumps(_clean(content), ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)


def _clean(value: Any, digits: int | None = None) -> Any:
    """Return `value` with clean strings, null for what is no finite number, and the numbers of curves rounded."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}") if digits else value
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {
            _text(str(key)): _clean(item, CURVE_DIGITS if key == "curves" else digits) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_clean(item, digits) for item in value]
    return _text(str(value))


def _text(text: str) -> str:
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _hash(name: str) -> str:
    digest = hashlib.sha256(_read(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
