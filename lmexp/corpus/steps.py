"""The steps of a pipeline that datatrove has none for, as datatrove wants them: documents in, documents out.

Each is a thin wrapper around a function of this room. A step runs in a process of its own, on any machine.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers import JsonlWriter
from numpy.typing import NDArray

from lmexp.config.corpus import (
    CleanConfig,
    DecontaminateConfig,
    DeduplicateConfig,
    RedactConfig,
    WordsConfig,
)
from lmexp.corpus.cleaning import clean, language_of
from lmexp.corpus.intake import Documents
from lmexp.corpus.leaks import Leaks, read_examples
from lmexp.corpus.redaction import redact
from lmexp.corpus.words import as_words
from lmexp.tokenization.compared import stretches_of, words_of

EXCERPT_CHARACTERS = 300


class Dropped(JsonlWriter):
    """Writes documents that a step has dropped: where they came from, why, and their beginning or the whole."""

    def __init__(self, folder: Path, step: str, *, whole: bool) -> None:
        super().__init__(str(folder / "dropped" / step), "${rank}.jsonl", compression=None)
        self.step, self.whole = step, whole

    def _default_adapter(self, document: Document) -> dict[str, Any]:
        reason = document.metadata.pop("filter_reason", self.step)
        text = document.text
        if not self.whole and len(text) > EXCERPT_CHARACTERS:  # a word that is cut, such as an address, is not redacted
            text = text[:EXCERPT_CHARACTERS].rpartition(" ")[0] or text[:EXCERPT_CHARACTERS]
        return {"id": document.id, "step": self.step, "reason": reason, "text": text, **document.metadata}


class Clean(PipelineStep):
    """Repaired text, with its language."""

    name, type = "clean", "lmexp"

    def __init__(self, config: CleanConfig) -> None:
        super().__init__()
        self.config = config

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        for document in data:
            with self.track_time():
                text = clean(document.text, self.config)
                if text != document.text:
                    self.stat_update("changed")
                document.text = text
                if self.config.identify_language or self.config.languages:
                    language, score = language_of(text)
                    document.metadata |= {"language": language, "language_score": score}
            yield document


class Bounds(BaseFilter):
    """Drops documents that are too short, too long, or in another language."""

    name = "bounds"

    def __init__(self, config: CleanConfig, dropped: Dropped) -> None:
        super().__init__(dropped)
        self.config = config

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if len(doc.text) < self.config.min_characters:
            return False, "too short"
        if self.config.max_characters is not None and len(doc.text) > self.config.max_characters:
            return False, "too long"
        if self.config.languages:
            is_sure = doc.metadata["language_score"] >= self.config.min_language_score
            if doc.metadata["language"] not in self.config.languages or not is_sure:
                return False, f"in another language: {doc.metadata['language']}" if is_sure else "in no sure language"
        return True


class Signature(MinhashDedupSignature):
    """MinHash over the words of any language; with near=false over the whole text at once, which finds equals."""

    def __init__(self, folder: Path, config: DeduplicateConfig) -> None:
        super().__init__(str(folder), minhash(config))
        self.whole = not config.near
        self._hashes: dict[str, int] = {}

    def get_shingles(self, text: str) -> NDArray[np.uint64]:
        words = words_of(text) or [text]
        hashes = self._hashes
        if len(hashes) > 500_000:
            hashes.clear()
        for word in set(words) - hashes.keys():
            hashes[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        hashes_N = np.fromiter(map(hashes.__getitem__, words), dtype=np.uint64, count=len(words))
        size = len(words) if self.whole else min(self.config.n_grams, len(words))
        return np.unique(stretches_of(hashes_N, size)).reshape(-1, 1)


def minhash(config: DeduplicateConfig) -> MinhashConfig:
    """Return datatrove's settings; one hash is enough for texts that are the same or not."""
    if not config.near:
        return MinhashConfig(n_grams=1, num_buckets=1, hashes_per_bucket=1)
    return MinhashConfig(config.ngram_size, config.num_buckets, config.hashes_per_bucket)


class Distinct(BaseFilter):
    """Keeps one document of each cluster; all of one carry its number, so that each leads to what stands for it."""

    name = "duplicates"

    def __init__(self, folder: Path, dropped: Dropped) -> None:
        super().__init__(dropped)
        self.folder = folder

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        self._removed = {number for (number,) in self._read(f"{rank:06d}.remove", 1)}
        self._clusters = dict(self._read(f"{rank:06d}.clusters", 2))
        self._number = -1
        yield from super().run(data, rank, world_size)

    def filter(self, doc: Document) -> bool:
        self._number += 1
        if self._number in self._clusters:
            doc.metadata["duplicates"] = self._clusters[self._number]
        return self._number not in self._removed

    def _read(self, name: str, width: int) -> list[Any]:
        """Return the rows of numbers that the clusters of a task were written as."""
        path = self.folder / name
        return np.fromfile(path, dtype="<u4").reshape(-1, width).tolist() if path.is_file() else []


class Redact(PipelineStep):
    """Personal data as placeholders."""

    name, type = "redact", "lmexp"

    def __init__(self, config: RedactConfig) -> None:
        super().__init__()
        self.kinds = tuple(config.kinds)

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        for document in data:
            with self.track_time():
                document.text, found = redact(document.text, self.kinds)
            if found:
                document.metadata["redacted"] = dict(found)
            yield document


class Decontaminate(BaseFilter):
    """Drops documents that hold examples of an evaluation set."""

    name = "leaks"

    def __init__(self, config: DecontaminateConfig, dropped: Dropped) -> None:
        super().__init__(dropped)
        self.config = config
        self._leaks: Leaks | None = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if self._leaks is None:  # here and not above: the index is made where it is used
            config = self.config
            self._leaks = Leaks(
                read_examples(config.against),
                ngram_size=config.ngram_size,
                min_words=config.min_words,
                share=config.share,
            )
        name = self._leaks.in_text(doc.text)
        return True if name is None else (False, f"holds an example of {name}")


class Words(PipelineStep):
    """The text as words."""

    name, type = "words", "lmexp"

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.config = config

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        for document in data:
            with self.track_time():
                document.text = as_words(document.text, self.config, document.metadata.get("language", "en"))
            if document.text.strip():
                yield document
