"""Pairs of texts of which the second is written from the first: translations, summaries, any others."""

from collections.abc import Iterator
from dataclasses import dataclass

from lmexp.config.buckets import BucketsConfig
from lmexp.config.data import Content, RowFilesConfig
from lmexp.config.schema import setting


@dataclass(kw_only=True)
class TextPairsConfig(BucketsConfig):
    """What every option with pairs has."""

    content = Content.pairs
    texts_per_example = 2

    separate_tokenizers: bool = setting(False)
    """Learn one tokenizer from the sources and another, with the same settings, from the targets, where the two are
    written in different ways; false learns one from both, and the model has one embedding."""


@dataclass(kw_only=True)
class PairsConfig(TextPairsConfig, RowFilesConfig):
    """Pairs of your own: two files side by side, or rows with source and target (.tsv .csv .jsonl .json, also .gz;
    .parquet).
    """

    name = "pairs"
    builds = "lmexp.data.pairs:Pairs"
    usual_keys = ("source", "target")

    target_path: str | None = setting(None, identity=False)
    """The file whose line n is written from line n of `path`; then both are plain text."""
    val_target_path: str | None = setting(None, identity=False)
    """The file beside `val_path`, line by line."""
    test_target_path: str | None = setting(None, identity=False)
    """The file beside `test_path`, line by line."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        for key in ("", "val_", "test_"):
            own, beside = getattr(self, f"{key}path"), getattr(self, f"{key}target_path")
            if beside is not None and own is None:
                yield f"{key}target_path", f"stands beside data.{key}path, which is not given"
            if own is not None and beside is None and self.target_path is not None:
                yield f"{key}target_path", f"must be given with data.target_path: the lines beside {own}"
            if beside is not None:
                yield from self.problems_of_path(f"{key}target_path")


@dataclass(kw_only=True)
class NumberWordsConfig(TextPairsConfig):
    """Numbers in English words, to be written in digits: pairs without a file, to try a model on."""

    name = "number_words"
    builds = "lmexp.data.number_words:NumberWords"

    largest: int = setting(999_999, at_least=999, at_most=999_999_999)
    """The largest number."""
    num_examples: int = setting(20_000, at_least=100)
    """Pairs to learn from; there are a twentieth as many to validate on, and as many to test on."""
