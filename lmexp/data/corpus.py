"""A corpus: documents tokenized once, kept in the cache by content, with a manifest of what they are.

The folder of a corpus is named by what went in (the text, how it is read, the tokenizer's settings) and appears whole
or not at all. A damaged one is made anew, for the cache holds nothing that the text cannot give again.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lmexp.config.data import DataConfig
from lmexp.config.schema import build
from lmexp.config.store import to_dict
from lmexp.config.tokenizer import TokenizerConfig
from lmexp.data.cache import cache_folder, part_of
from lmexp.data.counts import has_examples, require_some
from lmexp.data.length import require_context
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
    labels: tuple[str, ...] = ()
    """Of texts with labels, what the labels are called."""

    def open(self, split: str) -> TokenFile:
        """Return the ids of a split."""
        return token_files.read(self.folder, split, self.splits[split], self.tokenizer.num_ids)


def prepare(data: DataConfig, tokenizer: TokenizerConfig) -> Corpus:
    """Return the corpus of a config, tokenized now or taken from the cache.

    Raises:
        DataError: the text cannot be used.
        StorageError: the cache cannot be written.
    """
    try:
        source: Source = build(data)
        # what files hold is read first, for the corpus goes by their content and not by where they are
        to_use = tokenizer if tokenizer.is_learned else learn(tokenizer, ())
        folder = cache_folder(data) / "corpora" / _key(source, data, to_use)
        try:
            return _read(folder)
        except StorageError:  # not there yet, or damaged
            _write(folder, source, to_use)
    except OSError as error:
        problem = f"{cache_folder(data)}: {error.strerror or error}"
        raise StorageError(f"{problem}; free some space or set data.cache_dir to another disk") from None
    return _read(folder)


def check_length(corpus: Corpus, data: DataConfig, *, accumulate: int = 1) -> None:
    """Raise when a split is too short.

    Raises:
        DataError: saying the longest context that works.
    """
    for split, counts in corpus.splits.items():
        if has_examples(data):
            if counts.documents or split != "test":
                require_some(corpus.open(split), data, split)
        elif split == "train":
            require_context(counts.tokens, data, accumulate=accumulate)
        elif counts.tokens < 2 and (split, counts.tokens) != ("test", 0):
            raise DataError(f"the {split} split has {counts.tokens} tokens and needs 2 or more; give it more text")


def _key(source: Source, data: DataConfig, tokenizer: TokenizerConfig | Tokenizer) -> str:
    """Return the name of the corpus: batch shapes do not enter, so a sweep over them tokenizes once."""
    shape_of_batches = {field.name for field in fields(DataConfig)} - {"end_of_document"}
    reading = {key: value for key, value in to_dict(data, identity_only=True).items() if key not in shape_of_batches}
    content: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": source.fingerprint,
        "reading": reading,
        "tokenizer": tokenizer.hash if isinstance(tokenizer, Tokenizer) else to_dict(tokenizer),
    }
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=12).hexdigest()


def _write(folder: Path, source: Source, tokenizer: TokenizerConfig | Tokenizer) -> None:
    part = part_of(folder)
    part.mkdir(parents=True)
    try:
        if isinstance(tokenizer, TokenizerConfig):
            tokenizer = learn(tokenizer, source.documents("train"))
        tokenizer = source.fitting(tokenizer)
        tokenizer.save(part / "tokenizer.json")
        splits = {split: source.write(part, split, tokenizer) for split in SPLITS}
        if not splits["train"].tokens:
            raise DataError("there is no text to train on")
        manifest = {
            "format": FORMAT,
            "fingerprint": source.fingerprint,
            "tokenizer_hash": tokenizer.hash,
            "vocab_size": tokenizer.vocab_size,
            "splits": {split: token_files.as_dict(counts) for split, counts in splits.items()},
            "labels": list(source.labels),
        }
        (part / "manifest.json").write_text(json.dumps(manifest, indent=1))
        try:
            part.rename(folder)
        except OSError:
            if _is_intact(folder):  # another run was faster with the same text
                return
            _remove(folder)
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder so that nobody sees half of it."""
    trash = part_of(folder)
    folder.rename(trash)
    shutil.rmtree(trash)


def _is_intact(folder: Path) -> bool:
    try:
        _read(folder)
    except StorageError:
        return False
    return True


def _read(folder: Path) -> Corpus:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        tokenizer = load(folder / "tokenizer.json")
        splits = {split: SplitCounts(**counts) for split, counts in manifest["splits"].items()}
        labels = tuple(manifest.get("labels", ()))
        corpus = Corpus(folder, manifest["fingerprint"], tokenizer, splits, labels)
        matches = manifest["tokenizer_hash"] == tokenizer.hash
        for split in SPLITS:
            corpus.open(split)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LmexpError) as error:
        raise StorageError(f"{folder}: the tokenized text is damaged ({error}); delete it to make it anew") from None
    if not matches:
        raise StorageError(f"{folder}: the tokenizer is not the one of this text; delete the folder to make it anew")
    return corpus
