"""How short a text may be."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmexp.config.data import Order, TextConfig
from lmexp.config.tokenizer import BytesConfig
from lmexp.data.corpus import check_length, prepare
from lmexp.errors import DataError

BYTES = BytesConfig()


@pytest.fixture
def data(tmp_path: Path) -> TextConfig:
    path = tmp_path / "text.txt"
    path.write_text("0123456789" * 1000)
    return TextConfig(path=str(path), cache_dir=str(tmp_path / "cache"))


def test_a_context_that_is_too_long_says_which_works(data: TextConfig):
    corpus = prepare(data, BYTES)
    with pytest.raises(DataError) as error:
        check_length(corpus, replace(data, context_length=9001))
    assert str(error.value) == (
        "the train split has 9,001 tokens, too few for data.context_length=9001; at most 9000 works"
    )
    check_length(corpus, replace(data, context_length=9000))


def test_a_context_that_is_too_long_for_the_streams_says_which_works(data: TextConfig):
    corpus = prepare(data, BYTES)
    streams = replace(data, context_length=1000, order=Order.contiguous, batch_size=10)
    with pytest.raises(DataError) as error:
        check_length(corpus, streams)
    assert str(error.value) == (
        "the train split has 9,001 tokens, too few for data.context_length=1000 in 10 streams; at most 900 works"
    )
    check_length(corpus, replace(streams, context_length=900))
    with pytest.raises(DataError, match=r"in 20 streams; at most 450 works$"):
        check_length(corpus, replace(streams, context_length=900), accumulate=2)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_held_out_split_without_anything_to_predict_is_refused(data: TextConfig, split: str):
    settings = {"val_fraction": 0.1, "test_fraction": 0.1} | {f"{split}_fraction": 1e-4}
    corpus = prepare(replace(data, end_of_document=False, **settings), BYTES)
    with pytest.raises(DataError) as error:
        check_length(corpus, data)
    assert str(error.value) == f"the {split} split has 1 tokens and needs 2 or more; give it more text"


def test_no_test_split_is_fine(data: TextConfig):
    check_length(prepare(replace(data, test_fraction=0.0), BYTES), data)
