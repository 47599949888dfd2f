"""The tokenizers that are tables."""

import time

import pytest

from lmexp.config.tokenizer import BytesConfig, CharactersConfig, WordsConfig
from lmexp.errors import DataError
from lmexp.tokenization import learn


def test_characters_stand_in_the_order_of_their_code_points():
    tokenizer = learn(CharactersConfig(), ["cab", "é\n"])
    assert tokenizer.encode("\nabcé").tolist() == [0, 1, 2, 3, 4]
    assert tokenizer.vocab_size == 5 + 256 + 1


def test_characters_alone_make_nanogpts_vocabulary():
    tokenizer = learn(CharactersConfig(byte_fallback=False, end_of_document=False), ["hello"])
    assert tokenizer.vocab_size == 4
    assert tokenizer.end_of_document_id is None


def test_an_unknown_character_is_spelled_in_bytes():
    tokenizer = learn(CharactersConfig(), ["ab"])
    assert tokenizer.encode("a€b").tolist() == [0, *(2 + byte for byte in "€".encode()), 1]


def test_an_unknown_character_is_refused_by_name_without_bytes():
    tokenizer = learn(CharactersConfig(byte_fallback=False), ["ab"])
    with pytest.raises(DataError) as error:
        tokenizer.encode("ab😀é")
    assert str(error.value) == (
        "'😀' (U+1F600) is not in the training split; "
        "set tokenizer.byte_fallback=true to spell such characters in bytes"
    )


def test_many_unknown_characters_take_no_longer_than_known_ones():
    tokenizer = learn(CharactersConfig(), ["ab"])
    start = time.monotonic()
    assert len(tokenizer.encode("é" * 1_000_000)) == 2_000_000
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("config", [CharactersConfig(), BytesConfig()])
def test_bytes_that_are_no_character_decode_to_the_replacement_character(config):
    tokenizer = learn(config, ["ab"])
    half = tokenizer.encode("é")[:1]
    assert tokenizer.decode([*half, *tokenizer.encode("a")]) == "\ufffda"


def test_bytes_are_their_own_ids():
    tokenizer = learn(BytesConfig(), [])
    assert tokenizer.encode("aé").tolist() == [97, 0xC3, 0xA9]
    assert (tokenizer.vocab_size, tokenizer.end_of_document_id) == (257, 256)


def test_words_end_lines_with_eos_and_know_unk():
    tokenizer = learn(WordsConfig(), [" the cat \n the dog \n"])
    assert [tokenizer.learned[i] for i in tokenizer.encode(" the  bird\tdog \n\n")] == [
        "the",
        "<unk>",
        "dog",
        "<eos>",
        "<eos>",
    ]
    assert tokenizer.decode(tokenizer.encode("the bird \n dog\n")) == "the <unk>\ndog\n"


def test_words_learn_the_unk_of_a_tokenized_corpus():
    tokenizer = learn(WordsConfig(), ["a <unk> b <unk> \n"])
    assert tokenizer.learned.count("<unk>") == 1
    assert tokenizer.vocab_size == 4


def test_words_keep_the_most_frequent_and_both_marks():
    tokenizer = learn(WordsConfig(vocab_size=4), ["a a a b b c\n"])
    assert tokenizer.learned == ["<unk>", "<eos>", "a", "b"]
    assert tokenizer.encode("c").tolist() == [0]


def test_words_need_no_text():
    assert sorted(learn(WordsConfig(), []).learned) == ["<eos>", "<unk>"]
