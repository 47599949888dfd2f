"""A corpus: documents tokenized once, kept in the cache by content, with a manifest of what they are.

The folder of a corpus is named by what went in (the text, how it is read, the tokenizer's settings) and appears whole or
not at all.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lmexp.config.data import DataConfig
from lmexp.config.schema import build
from lmexp.config.store import to_dict
from lmexp.config.tokenizer import TokenizerConfig
from lmexp.data.cache import cache_folder
from lmexp.data.source import SPLITS, Source
from lmexp.errors import DataError, LmexpError, StorageError
from lmexp.tokenization import TokenFile, Tokenizer, learn, load, token_files
from lmexp.tokenization.token_files import SplitCounts

FORMAT = 1


@dataclass(frozen=True)
class Corpus:
    """Tokenized text: a tokenizer and a file of ids for each split."""

    folder: Path
    fingerprint: str
    tokenizer: Tokenizer
    splits: dict[str, SplitCounts]

    def open(self, split: str) -> TokenFile:
        """Return the ids of a split."""
        return token_files.read(self.folder, split, self.splits[split], self.tokenizer.vocab_size)


def prepare(data: DataConfig, tokenizer: TokenizerConfig) -> Corpus:
    """Return the corpus of a config, tokenized now or taken from the cache.

    Raises:
        DataError: the text cannot be used.
        StorageError: the cache cannot be written.
    """
    source: Source = build(data)
    folder = cache_folder(data) / "corpora" / _key(source, data, tokenizer)
    if not (folder / "manifest.json").is_file():
        try:
            _write(folder, source, data, tokenizer)
        except OSError as error:
            where = f"{error.filename or folder}: {error.strerror or error}"
            raise StorageError(f"{where}; free some space or set data.cache_dir to another disk") from None
    return _read(folder)


def check_length(corpus: Corpus, data: DataConfig) -> None:
    """Raise when a split is shorter than one row of a batch.

    Raises:
        DataError: saying the longest context that works.
    """
    for split, counts in corpus.splits.items():
        if counts.tokens == 0 and split == "test":
            continue
        rows = data.batch_size if data.order.name == "contiguous" and split == "train" else 1
        longest = counts.tokens // rows - 1
        if longest < (data.context_length if split == "train" else 1):
            raise DataError(
                f"the {split} split has {counts.tokens:,} tokens, too few for data.context_length={data.context_length}"
                + (f" in {rows} streams" if rows > 1 else "")
                + (f"; at most {longest} works" if longest > 0 else "; give it more text")
            )


def _key(source: Source, data: DataConfig, tokenizer: TokenizerConfig) -> str:
    """Return the name of the corpus: batch shapes do not enter, so a sweep over them tokenizes once."""
    shape_of_batches = {field.name for field in fields(DataConfig)} - {"end_of_document"}
    reading = {key: value for key, value in to_dict(data, identity_only=True).items() if key not in shape_of_batches}
    content: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": source.fingerprint,
        "reading": reading,
        "tokenizer": to_dict(tokenizer),
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=12).hexdigest()


def _write(folder: Path, source: Source, data: DataConfig, config: TokenizerConfig) -> None:
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        tokenizer = learn(config, source.documents("train"))
        tokenizer.save(part / "tokenizer.json")
        splits = {
            split: token_files.write(
                part,
                split,
                source.documents(split),
                tokenizer,
                end_of_document=data.end_of_document,
                separator_bytes=source.separator_bytes if data.end_of_document else 0,
            )
            for split in SPLITS
        }
        manifest = {
            "format": FORMAT,
            "fingerprint": source.fingerprint,
            "tokenizer_hash": tokenizer.hash,
            "vocab_size": tokenizer.vocab_size,
            "splits": {split: token_files.as_dict(counts) for split, counts in splits.items()},
        }
        (part / "manifest.json").write_text(json.dumps(manifest, indent=1))
        try:
            part.rename(folder)
        except OSError:
            if not (folder / "manifest.json").is_file():  # else another run was faster with the same text
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read(folder: Path) -> Corpus:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        tokenizer = load(folder / "tokenizer.json")
        splits = {split: SplitCounts(**counts) for split, counts in manifest["splits"].items()}
        matches = manifest["tokenizer_hash"] == tokenizer.hash
    except (OSError, ValueError, KeyError, TypeError, LmexpError) as error:
        raise StorageError(f"{folder}: the tokenized text is damaged ({error}); delete the folder to make it anew") from None
    if not matches:
        raise StorageError(f"{folder}: the tokenizer is not the one of this text; delete the folder to make it anew")
    if splits["train"].tokens == 0:
        raise DataError("there is no text to train on")
    return Corpus(folder, manifest["fingerprint"], tokenizer, splits)
