"""What texts begin with: prompts from the command line, a file or stdin, and whether a run can go on with them.

No torch here: what is wrong is said before it is loaded.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmexp.config.data import Content
from lmexp.config.model import Kind
from lmexp.errors import DataError, RunError
from lmexp.runs import RunFolder

CANNOT_WRITE = {
    Kind.encoder: "reads both ways: it fills in masked tokens and gives features, and cannot write texts",
    Kind.classifier: "scores labels, and cannot write texts",
}


def require_writer(run: RunFolder) -> None:
    """Raise unless the model of a run can go on with a text.

    Raises:
        RunError: it cannot.
    """
    model = run.config.model
    problem = CANNOT_WRITE.get(model.kind)
    if run.config.data.content is Content.labels:
        problem = "tells labels, and cannot write texts"
    if problem:
        raise RunError(
            f"{run.path.name}: its model ({model.name}) {problem}; "
            "choose a run of a decoder (see lmexp runs), or measure this one: lmexp evaluate"
        )


def read_prompts(given: Sequence[str], file: str | None = None) -> list[str]:
    """Return the prompts of the command line and then those of a file; one empty prompt if neither is given.

    Raises:
        DataError: a prompt is empty, or the file cannot be read.
    """
    if "" in given:
        raise DataError("--prompt is empty; leave it out to begin a new document")
    from_file = [] if file is None else list(_of_file(file))
    return [*given, *from_file] or [""]


def _of_file(file: str) -> Iterator[str]:
    name = "stdin" if file == "-" else file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{name}: the prompts cannot be read: {error.strerror}") from None
    try:
        lines = data.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{name}, line {line}: not UTF-8; convert the file (iconv -t UTF-8)") from None
    if lines == [""]:
        raise DataError(f"{name} has no prompts: write one a line")
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        prompt = _of_json(line, f"{name}, line {number}") if name.endswith(".jsonl") else line
        if not prompt:
            raise DataError(f"{name}, line {number}: the prompt is empty; write something or remove the line")
        yield prompt


def _of_json(line: str, place: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{place}: not JSON ({error}); write {{"prompt": "..."}}') from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise DataError(f'{place}: no text under the key "prompt"; write {{"prompt": "..."}}')
    return row["prompt"]
