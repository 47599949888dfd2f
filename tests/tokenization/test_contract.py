"""What every listed tokenizer promises; a new option is tested by being listed."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmexp.config.schema import OPTIONS
from lmexp.errors import DataError, RunError
from lmexp.tokenization import Tokenizer, learn, load
from tests.tokenization.setups import HARD, TEXTS, TRAINING_TEXT, write_byte_level

ALL = sorted(OPTIONS["tokenizer"])
EXACT = [name for name in ALL if name != "words"]
LEARNED = [name for name in ALL if OPTIONS["tokenizer"][name].is_learned and name != "bytes"]


@cache
def settings_of(name: str) -> dict[str, Any]:
    if name in ("bpe", "unigram"):
        return {"vocab_size": 350}
    if name not in ("hf", "file"):
        return {}
    folder = Path(tempfile.mkdtemp())
    if name == "hf":
        write_byte_level(folder, TRAINING_TEXT)
        return {"name_or_path": str(folder)}
    learned("bpe").save(folder / "tokenizer.json")
    return {"path": str(folder / "tokenizer.json")}


@cache
def learned(name: str, text: str = TRAINING_TEXT) -> Tokenizer:
    return learn(OPTIONS["tokenizer"][name](**settings_of(name)), [text])


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("text", HARD, ids=lambda text: ascii(text)[:30])
def test_decode_gives_back_a_hard_text(name: str, text: str):
    tokenizer = learned(name)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text="a b \u2581\u2581 c")
def test_decode_gives_back_every_text(name: str, text: str):
    tokenizer = learned(name)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS, characters=st.integers(1, 40), piece=st.integers(1, 30))
@example(text=HARD[-1], characters=1, piece=1)
@example(text=HARD[-1], characters=5000, piece=7)
@example(text=TRAINING_TEXT, characters=1, piece=5000)
@example(text=TRAINING_TEXT, characters=4000, piece=900)
@example(text=f"{TRAINING_TEXT} \u2581 {TRAINING_TEXT}", characters=4000, piece=10**6)
@example(text=TRAINING_TEXT.replace(" ", ""), characters=100, piece=10**6)
def test_stretch_by_stretch_the_ids_are_those_of_the_whole(name: str, text: str, characters: int, piece: int):
    tokenizer = learned(name)
    in_pieces = [text[start : start + piece] for start in range(0, len(text), piece)]
    stretches = list(tokenizer.stretches(in_pieces, characters))
    assert "".join(stretches) == text
    ids = [i for ids in tokenizer.encode_all(stretches) for i in ids.tolist()]
    assert ids == tokenizer.encode(text).tolist()


def test_a_long_text_is_encoded_in_stretches():
    for name in ("characters", "bytes", "words", "bpe", "unigram"):
        assert 10 < len(list(learned(name).stretches([TRAINING_TEXT], 2000))) < 60


@pytest.mark.parametrize("name", ["bpe", "unigram"])
def test_a_text_without_spaces_is_encoded_in_stretches_too(name: str):
    assert len(list(learned(name).stretches([TRAINING_TEXT.replace(" ", "")], 2000))) > 10


@pytest.mark.parametrize("name", LEARNED)
def test_the_pieces_in_which_a_text_comes_teach_the_same(name: str):
    in_pieces = [TRAINING_TEXT[start : start + 777] for start in range(0, len(TRAINING_TEXT), 777)]
    again = learn(OPTIONS["tokenizer"][name](**settings_of(name)), [in_pieces])
    assert again.hash == learned(name).hash


@pytest.mark.parametrize("name", EXACT)
def test_decode_gives_back_spaces_when_the_training_text_has_none(name: str):
    tokenizer = learned(name, TRAINING_TEXT.replace(" ", ""))
    assert tokenizer.decode(tokenizer.encode(" a \u2581 b  ")) == " a \u2581 b  "


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_ids_are_in_the_vocabulary(name: str, text: str):
    tokenizer = learned(name)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert ids.ndim == 1
    assert np.all((ids >= 0) & (ids < tokenizer.vocab_size))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_ids_decode_to_text_that_can_be_written(name: str, data: st.DataObject):
    tokenizer = learned(name)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    tokenizer.decode(ids).encode("utf-8")
    assert tokenizer.decode(np.array(ids, dtype=np.int64)) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_no_text_contains_the_end_of_a_document(name: str, text: str):
    tokenizer = learned(name)
    assert tokenizer.end_of_document_id not in tokenizer.encode(text)


@pytest.mark.parametrize("name", EXACT)
def test_decode_leaves_the_end_of_a_document_out(name: str):
    tokenizer = learned(name)
    end = tokenizer.end_of_document_id
    assert tokenizer.decode([end, *tokenizer.encode("the cat"), end]) == "the cat"


@pytest.mark.parametrize("name", ALL)
def test_half_a_surrogate_pair_is_refused(name: str):
    with pytest.raises(DataError) as error:
        learned(name).encode("ab\ud83d")
    assert str(error.value) == (
        "the text holds '\\ud83d' at character 2: half of a surrogate pair, which is not Unicode text"
    )


@pytest.mark.parametrize("name", LEARNED)
def test_half_a_surrogate_pair_cannot_be_learned_from(name: str):
    with pytest.raises(DataError, match="half of a surrogate pair"):
        learn(OPTIONS["tokenizer"][name](), ["ab\ud83d"])


@pytest.mark.parametrize("name", ALL)
def test_learning_twice_gives_the_same_tokenizer(name: str):
    assert learned(name).hash == learned.__wrapped__(name).hash


@pytest.mark.parametrize("name", ALL)
def test_a_saved_tokenizer_is_the_same_when_loaded(name: str, tmp_path: Path):
    tokenizer = learned(name)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load(tmp_path / "tokenizer.json")
    assert loaded.hash == tokenizer.hash
    assert loaded.config == tokenizer.config
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.end_of_document_id == tokenizer.end_of_document_id
    for text in [*HARD, TRAINING_TEXT]:
        np.testing.assert_array_equal(loaded.encode(text), tokenizer.encode(text))


def test_the_hash_tells_settings_and_texts_apart():
    tokenizers = [learned(name, text) for name in LEARNED for text in (TRAINING_TEXT, TRAINING_TEXT.upper())]
    characters = OPTIONS["tokenizer"]["characters"]
    tokenizers.append(learn(characters(end_of_document=False), [TRAINING_TEXT]))
    different = {tokenizer.hash for tokenizer in [*tokenizers, learned("bytes"), learned("hf")]}
    assert len(different) == len(tokenizers) + 2


@pytest.mark.parametrize("name", ["bytes", "hf", "file"])
def test_a_text_teaches_nothing_where_there_is_nothing_to_learn(name: str):
    assert learned(name, "another text").hash == learned(name).hash


def test_the_tokenizer_of_a_run_is_as_it_is():
    assert learned("file").hash == learned("bpe").hash
    assert learned("file").config == learned("bpe").config


@pytest.mark.parametrize(("old", "new"), [('"the"', '"teh"'), ('"vocab_size": null', '"vocab_size": 900')])
def test_a_changed_file_is_refused(tmp_path: Path, old: str, new: str):
    path = tmp_path / "tokenizer.json"
    learned("words").save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RunError) as error:
        load(path)
    assert str(error.value) == (
        f"{path}: the tokenizer was changed after it was written; copy it from an intact run folder"
    )


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"config": {"name": "bytes"}}', '{"config": {"name": "new"}, "learned": 1}']
    + [
        f'{{"config": {{"name": "{name}"}}, "learned": {value}, "hash": ""}}'
        for name in ALL
        for value in ("1", '["a"]')
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"tokenizer\.json"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RunError, match=r"none\.json: the tokenizer cannot be read .*copy it from an intact run folder"):
        load(tmp_path / "none.json")
