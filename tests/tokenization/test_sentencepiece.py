"""SentencePiece: what it takes from a text, and what it says when it cannot."""

import re
import time
from pydoc_data.topics import topics

import numpy as np
import pytest

from lmexp.config.tokenizer import BPEConfig, Normalization, SentencePieceConfig, UnigramConfig
from lmexp.errors import DataError
from lmexp.tokenization import learn
from tests.conftest import sentences

BOTH = pytest.mark.parametrize("option", [BPEConfig, UnigramConfig])
ENGLISH = "".join(topics.values())[:50_000]
HANZI = "".join(map(chr, range(0x4E00, 0x4F00)))


@BOTH
@pytest.mark.parametrize("text", ["a", " ", "hello world", "ab " * 500, sentences(500), HANZI * 3, "\0\t"])
def test_the_largest_vocabulary_that_is_named_works(option: type[SentencePieceConfig], text: str):
    with pytest.raises(DataError) as error:
        learn(option(vocab_size=100_000), [text])
    found = re.fullmatch(
        r"tokenizer\.vocab_size=100000: the text gives at most (\d+) tokens; set it to (\d+) or less", str(error.value)
    )
    assert found is not None
    largest = int(found[1])
    tokenizer = learn(option(vocab_size=largest), [text])
    assert tokenizer.vocab_size == largest
    assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(DataError):
        learn(option(vocab_size=largest + 1), [text])


@BOTH
def test_the_smallest_vocabulary_that_is_named_works(option: type[SentencePieceConfig]):
    with pytest.raises(DataError) as error:
        learn(option(vocab_size=300), [HANZI * 10])
    assert str(error.value) == (
        "tokenizer.vocab_size=300: the characters of this text alone need 515; set it to 515 or more"
    )
    assert learn(option(vocab_size=515), [HANZI * 10]).vocab_size == 515


@BOTH
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_gives_no_tokenizer(option: type[SentencePieceConfig], texts: list[str]):
    with pytest.raises(DataError, match=r"^the training split has no text to learn a tokenizer from$"):
        learn(option(), texts)


@BOTH
def test_nfkc_folds_look_alikes(option: type[SentencePieceConfig]):
    tokenizer = learn(option(vocab_size=350, normalization=Normalization.nfkc), [ENGLISH])
    assert tokenizer.decode(tokenizer.encode("\ufb01ne \uff11\uff12 x")) == "fine 12 x"
    assert tokenizer.hash != learn(option(vocab_size=350), [ENGLISH]).hash


def test_bytes_that_are_no_character_decode_to_the_replacement_character():
    tokenizer = learn(BPEConfig(vocab_size=350), [sentences(5000)])
    first_byte = int(tokenizer.encode("é")[0])
    assert tokenizer.decode([first_byte]) == "\ufffd"


def test_pieces_hold_newlines_and_indentation():
    text = "def f(x):\n    if x:\n        return x\n\n" * 500
    tokenizer = learn(BPEConfig(vocab_size=290), [text])
    assert len(tokenizer.encode("\n        return x\n\n")) < 10


def test_a_long_text_has_the_ids_of_its_parts():
    text = ENGLISH.replace("\n", " ")
    for option in (BPEConfig, UnigramConfig):
        tokenizer = learn(option(vocab_size=400), [text])
        middle = text.index(" ", 25_000)
        parts = [tokenizer.encode(text[:middle]), tokenizer.encode(text[middle:])]
        np.testing.assert_array_equal(tokenizer.encode(text), np.concatenate(parts))


def test_time_grows_with_the_length_of_a_line_and_not_faster():
    tokenizer = learn(BPEConfig(vocab_size=400), [sentences(20_000)])
    for line in ("the cat sees " * 80_000, "thecatsees" * 30_000, " " * 500_000):
        start = time.monotonic()
        tokenizer.encode(line)
        assert time.monotonic() - start < 5  # seconds; what is quadratic takes minutes


def test_of_a_long_text_every_part_is_learned_from():
    text = sentences(30_000) + "zyzzyva " * 1000
    tokenizer = learn(BPEConfig(vocab_size=400, max_training_characters=10_000), [text])
    assert len(tokenizer.encode(" zyzzyva")) == 1
