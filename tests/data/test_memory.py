"""Memory: what preparing a text takes does not grow with the text."""

import tracemalloc
from pathlib import Path

import pytest

from lmexp.config.data import TextConfig
from lmexp.config.tokenizer import BPEConfig, BytesConfig, CharactersConfig, TokenizerConfig, WordsConfig
from lmexp.data.corpus import prepare
from tests.conftest import sentences

MEGABYTE = sentences(1_000_000).encode()
TOKENIZERS = [
    BytesConfig(),
    CharactersConfig(),
    pytest.param(WordsConfig(), marks=pytest.mark.slow),
    pytest.param(BPEConfig(vocab_size=400, max_training_characters=50_000), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda tokenizer: tokenizer.name)
def test_a_text_three_times_as_long_takes_no_more_memory(folder: Path, tokenizer: TokenizerConfig) -> None:
    peak_bytes(folder, 4, tokenizer)  # loads what is loaded when it is needed
    assert peak_bytes(folder, 18, tokenizer) < 1.1 * peak_bytes(folder, 6, tokenizer)


def peak_bytes(folder: Path, megabytes: int, tokenizer: TokenizerConfig) -> int:
    path = folder / f"{megabytes}.txt"
    path.write_bytes(MEGABYTE * megabytes)
    tracemalloc.start()
    try:
        prepare(TextConfig(path=str(path), cache_dir=str(folder / "cache")), tokenizer)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
