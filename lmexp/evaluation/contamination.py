"""Which examples of an evaluation occur in the text that a run has learned from.

An example is contaminated when a stretch of 13 words of it stands in the training text, or, where it is shorter, the
whole of it (of fewer than 5 words none is); words are compared without case and punctuation. The training text is that
of the run and of the runs that it began with.
Source: Brown et al. 2020 (GPT-3), appendix C.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmexp.checkpoints import LoadedRun
from lmexp.config.data import DataConfig
from lmexp.config.schema import build
from lmexp.config.train import TrainConfig
from lmexp.data.source import Source
from lmexp.errors import LmexpError
from lmexp.evaluation.intervals import interval
from lmexp.evaluation.measured import Measured
from lmexp.runs import RunFolder
from lmexp.tokenization.base import pieces
from lmexp.tokenization.compared import words_of

WORDS, FEWEST = 13, 5


def contaminated(examples: Iterable[str], training: Iterable[str]) -> list[bool]:
    """Return of each example whether it occurs in the training texts."""
    keys: dict[tuple[str, ...], set[int]] = {}
    count = 0
    for number, example in enumerate(examples):
        count += 1
        words = words_of(example)
        for key in _stretches(words, min(WORDS, len(words))) if len(words) >= FEWEST else ():
            keys.setdefault(key, set()).add(number)
    lengths = sorted({len(key) for key in keys})
    found: set[int] = set()
    for text in training:
        words = words_of(text)
        for length in lengths:
            for key in _stretches(words, length):
                if key in keys:
                    found |= keys[key]
    return [number in found for number in range(count)]


def _stretches(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    for first in range(len(words) - length + 1):
        yield tuple(words[first : first + length])


def report(loaded: LoadedRun, data: DataConfig, split: str, measured: Measured) -> dict[str, Any]:
    """Return how many examples occur in the training text, and the metrics of those that do not."""
    texts = examples_of(data, split)
    problems: list[str] = []
    is_seen = np.array(contaminated(texts, training_texts(loaded, problems)), dtype=bool)
    if len(is_seen) != measured.count:
        return {"problem": f"the examples are {measured.examples_are}, which are not looked up in the training text"}
    clean_N = (~is_seen).astype(np.float64)
    result: dict[str, Any] = {
        "num_contaminated": int(is_seen.sum()),
        "numbers": np.flatnonzero(is_seen).tolist(),
        "words": WORDS,
        "not_looked_at": problems,
        "clean": {},
    }
    if clean_N.any():
        rows = np.flatnonzero(clean_N)
        for name, metric in measured.metrics.items():

            def of_clean(weights: Any, metric: Any = metric) -> float:
                spread = np.zeros(measured.count)
                spread[rows] = weights
                return float(metric(spread))

            low, high = interval(of_clean, len(rows)) or (None, None)
            result["clean"][name] = {"value": metric(clean_N), "low": low, "high": high}
    return result


def as_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield what the report says, for a terminal."""
    if "problem" in report:
        yield f"contamination: {report['problem']}"
        return
    yield f"{report['num_contaminated']:,} examples occur in the training text ({WORDS} words in a row, or whole)"
    for name, one in report["clean"].items() if report["num_contaminated"] else ():
        yield f"  without them: {name.replace('_', ' ')} {one['value']:.4f}"
    yield from (f"not looked at: {problem}" for problem in report["not_looked_at"])


def examples_of(data: DataConfig, split: str) -> list[str]:
    """Return the texts that a model is asked about: of pairs the sources."""
    source: Any = build(data)
    if hasattr(source, "pairs"):
        return [pair.source for pair in source.pairs(split)]
    if hasattr(source, "texts"):
        return [one.text for one in source.texts(split)]
    return ["".join(pieces(document)) for document in source.documents(split)]


def training_texts(loaded: LoadedRun, problems: list[str]) -> Iterator[str]:
    """Yield what the run has learned from, and the runs that it began with; what cannot be read is named."""
    run: RunFolder | None = loaded.run
    while run is not None:
        record = run.record
        if record.get("imported"):
            problems.append(f"{run.path.name} was imported; what it learned from is not known here")
            return
        try:
            config: TrainConfig = run.config
            source: Source = build(config.data)
            for document in source.documents("train"):
                yield "".join(pieces(document))
        except LmexpError as error:
            problems.append(f"the training text of {run.path.name}: {error}")
        parent = record.get("init_from")
        run = RunFolder(Path(parent["path"])) if parent else None
