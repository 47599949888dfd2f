"""What people say about a run: its name, tags, and whether it is put away.

They have a file of their own, labels.json, which training never writes: naming a run that is going on loses nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lmexp.errors import RunError
from lmexp.runs.folder import RunFolder, replace_file, storage_error

FILE = "labels.json"


@dataclass
class Labels:
    """The content of labels.json."""

    name: str | None = None
    tags: list[str] = field(default_factory=list)
    archived: bool = False


def read_labels(run: Path) -> Labels:
    """Return the labels of a run folder; a file that cannot be read is none."""
    try:
        values: Any = json.loads((run / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return Labels()
    if not isinstance(values, dict):
        return Labels()
    name, tags = values.get("name"), values.get("tags")
    return Labels(
        name=name if isinstance(name, str) else None,
        tags=[tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        archived=values.get("archived") is True,
    )


def rename(run: RunFolder, name: str) -> None:
    """Show a run under another name; its folder, which resuming looks for, stays.

    Raises:
        RunError: the name is empty.
    """
    if not name.strip():
        raise RunError("a name needs at least one character")
    _write(run, name=name.strip())


def tag(run: RunFolder, add: Sequence[str] = (), remove: Sequence[str] = ()) -> list[str]:
    """Add tags to a run and take others off; return those it has now.

    Raises:
        RunError: a tag is empty, or has a comma.
    """
    for text in add:
        if not text.strip() or "," in text:
            raise RunError(f"'{text}' cannot be a tag: one word or a few, without a comma")
    tags = [text for text in dict.fromkeys([*read_labels(run.path).tags, *add]) if text not in remove]
    _write(run, tags=tags)
    return tags


def archive(run: RunFolder, *, archived: bool = True) -> None:
    """Put a run away: lists and comparisons leave it out; or take it back."""
    _write(run, archived=archived)


def _write(run: RunFolder, **changes: Any) -> None:
    labels = asdict(read_labels(run.path)) | changes
    try:
        replace_file(run.path / FILE, json.dumps(labels, indent=1, ensure_ascii=False))
    except OSError as error:
        raise storage_error(error, run.path) from None
    except ValueError:
        raise RunError("a name or tag holds characters that cannot be written") from None
