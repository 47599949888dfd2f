"""A text of a gigabyte made ready for training: how long it takes, and in how much memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from benchmarks.process import python
from benchmarks.wikitext import plain

GIGABYTE, TENTH = 10**9, 10**8
SMALL = "a tenth of it"
MOST_BYTES = 1.5e9
PREPARE = """
import sys
from lmexp.config.compose import compose
from lmexp.data.corpus import prepare
config = compose("train", sys.argv[1:])
prepare(config.data, config.tokenizer)
"""
"""What `lmexp train` does before it loads torch."""


@contextmanager
def of_a_gigabyte(wikitext: Path, *, threads: int) -> Iterator[Benchmark]:
    """WikiText-2's training text, over and over, as one document and as one a line."""
    with plain(wikitext) as texts, tempfile.TemporaryDirectory() as folder:
        text = (texts / "train.txt").read_bytes()
        large, small = (_repeated(text, size, Path(folder)) for size in (GIGABYTE, TENTH))

        def side(path: Path, *options: str) -> Quantities:
            with tempfile.TemporaryDirectory() as cache:
                overrides = ["data=text", f"data.path={path}", f"data.cache_dir={cache}", *options]
                finished = python(["-c", PREPARE, *overrides], cache, threads=threads)
            return {"wall_seconds": finished.wall_seconds, "peak_bytes": finished.peak_bytes}

        bpe, by_line = "tokenizer.vocab_size=8192", "data.documents=line"
        yield Benchmark(
            counts="whole processes: imports without torch, learning 8,192 pieces, ids on disk; the text is repeated",
            sides={
                OURS: lambda number: side(large, bpe),
                AGAIN: lambda number: side(large, bpe),
                f"{OURS}, a document a line": lambda number: side(large, bpe, by_line),
                SMALL: lambda number: side(small, bpe),
            },
            rounds=1,
            goals=[
                Goal(None, "peak_bytes", MOST_BYTES),
                Goal(None, "peak_bytes", MOST_BYTES, ours=f"{OURS}, a document a line"),
            ],
        )


def _repeated(text: bytes, size: int, folder: Path) -> Path:
    path = folder / f"{size}.txt"
    with path.open("wb") as file:
        for _ in range(-(-size // len(text))):
            file.write(text)
    return path
