"""The steps that count documents and hold some of them out, by their content."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers import JsonlWriter

from lmexp.config.corpus import SplitConfig
from lmexp.corpus.intake import Documents


class Tally(PipelineStep):
    """Counts what a stage gives, and of the last one keeps a hash of each document for the split."""

    name, type = "tally", "lmexp"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("documents", "bytes", "languages", "lengths", "redacted")
        }
        hashes: list[tuple[int, int]] = []
        for document in data:
            size, source = len(document.text.encode()), document.metadata.get("source", "")
            counts["documents"][source] += 1
            counts["bytes"][source] += size
            counts["languages"][document.metadata.get("language", "")] += 1
            counts["lengths"][str(len(document.text).bit_length())] += 1
            counts["redacted"].update(document.metadata.get("redacted", {}))
            hashes.append((content_hash(document.text), size))
            yield document
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{rank:05d}.json").write_text(json.dumps(counts, sort_keys=True))
        np.save(self.folder / f"{rank:05d}.npy", np.array(hashes, dtype=np.uint64).reshape(-1, 2))


def content_hash(text: str) -> int:
    """Return 63 bits of the content of a document, by which it is held out or not."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Borders(PipelineStep):
    """Finds how far the hashes of each held-out part reach; the work of one task."""

    name, type = "borders", "lmexp"
    FEW_DOCUMENTS = 100

    def __init__(self, tally: Path, folder: Path, config: SplitConfig) -> None:
        super().__init__()
        self.tally, self.folder, self.config = tally, folder, config

    def run(self, data: Documents | None = None, rank: int = 0, world_size: int = 1) -> None:
        rows = np.concatenate([np.load(path) for path in sorted(self.tally.glob("*.npy"))])
        borders = {"val": 0, "test": 0}
        if len(rows) >= self.FEW_DOCUMENTS:
            rows = rows[np.argsort(rows[:, 0], kind="stable")]
            share = np.cumsum(rows[:, 1]) / max(1, rows[:, 1].sum())
            fractions = np.cumsum([self.config.val_fraction, self.config.test_fraction])
            for name, fraction in zip(borders, fractions, strict=True):
                borders[name] = int(rows[min(len(rows) - 1, np.searchsorted(share, fraction)), 0]) if fraction else 0
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "borders.json").write_text(json.dumps(borders))


class Split(PipelineStep):
    """Writes each document to its part: data/train-00000.jsonl, data/val-00000.jsonl, data/test-00000.jsonl."""

    name, type = "split", "lmexp"

    def __init__(self, borders: Path, folder: Path) -> None:
        super().__init__()
        self.borders, self.folder = borders, folder

    def run(self, data: Documents, rank: int = 0, world_size: int = 1) -> Documents:
        borders = json.loads((self.borders / "borders.json").read_text())
        with JsonlWriter(str(self.folder), "${split}-${rank}.jsonl", compression=None, adapter=_flat) as writer:
            for document in data:
                place = content_hash(document.text)
                split = next((name for name, border in borders.items() if place < border), "train")
                writer.write(document, rank, split=split)
                self.stat_update(split)
                yield document


def _flat(self: Any, document: Document) -> dict[str, Any]:
    return {"id": document.id, "text": document.text, **document.metadata}
