"""Tokenizing WikiText-2's training text with pieces learned from it, on all cores and on one."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from benchmarks.wikitext import plain
from lmexp.config.tokenizer import BPEConfig, UnigramConfig
from lmexp.tokenization import Tokenizer, learn, token_files

ONE_CORE = "one core"


@contextmanager
def of_a_text(wikitext: Path, *, threads: int) -> Iterator[Benchmark]:
    """Ids on disk, without learning the tokenizer; the threads are SentencePiece's own, one a core."""
    with plain(wikitext) as folder:
        text = (folder / "train.txt").read_text(encoding="utf-8")
    tokenizers = {config.name: learn(config, [text]) for config in (BPEConfig(), UnigramConfig())}

    def side(cores: int) -> Callable[[int], Quantities]:
        def measured(round_number: int) -> Quantities:
            allowed = os.sched_getaffinity(0)
            os.sched_setaffinity(0, sorted(allowed)[:cores])
            try:
                return {f"{name}_seconds": _seconds(text, tokenizer) for name, tokenizer in tokenizers.items()}
            finally:
                os.sched_setaffinity(0, allowed)

        return measured

    yield Benchmark(
        counts=f"{len(text):,} characters to a file of ids, in this process",
        sides={OURS: side(threads), ONE_CORE: side(1), AGAIN: side(threads)},
        warmups=1,
        goals=[Goal(ONE_CORE, f"{name}_seconds", 1.6) for name in tokenizers],
    )


def _seconds(text: str, tokenizer: Tokenizer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        token_files.write(Path(folder), "train", [text], tokenizer, end_of_document=False)
        return time.perf_counter() - start
