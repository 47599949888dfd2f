"""A text ends before the first stop string, and no part of one is shown while it grows."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmexp.config.tokenizer import BPEConfig, BytesConfig, WordsConfig
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, complete, write
from lmexp.tokenization import Tokenizer, learn
from tests.generation.setups import Fixed

BYTES = learn(BytesConfig(), [])


def written(says: Sequence[int], stop: Sequence[str], tokenizer: Tokenizer = BYTES, prompt: str = "x") -> list[str]:
    sampling = Sampling(max_tokens=len(says), temperature=0, stop=tuple(stop))
    return list(write(Fixed(says, tokenizer.vocab_size), Continuation(tokenizer), prompt, sampling))


def test_the_text_is_cut_before_the_stop_string() -> None:
    sampling = Sampling(max_tokens=11, temperature=0, stop=("o w",))
    [one] = complete(Fixed(b"hello world", 257), Continuation(BYTES), ["x"], sampling)
    assert (one.text, one.finish_reason, one.tokens) == ("hell", "stop", list(b"hello w"))


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_clear() -> None:
    assert written(b"a\n\nb\n\nUser: hi", ["\n\nUser:"]) == ["x", "a", "\n\nb"]
    assert written(b"ab\n\nUs", ["\n\nUser:"]) == ["x", "a", "b", "\n\nUs"]


def test_a_stop_string_may_span_bytes_of_one_character() -> None:
    assert written("aé漢字b".encode(), ["漢字"]) == ["x", "a", "é"]


def test_a_stop_string_inside_a_token_cuts_the_token() -> None:
    tokenizer = learn(BPEConfig(vocab_size=285), ["the cat sat on the mat " * 50])
    says = tokenizer.encode(" the cat sat").tolist()
    assert len(says) < 12
    assert "".join(written(says, ["at s"], tokenizer, "on")) == "on the c"


def test_a_stop_string_of_words_has_the_spaces_between() -> None:
    tokenizer = learn(WordsConfig(vocab_size=None), ["the cat sat on the mat\n"])
    says = tokenizer.encode("sat on the mat").tolist()
    assert "".join(written(says, ["on the"], tokenizer, "the cat")) == "the cat sat "


def test_the_prompt_is_no_part_of_a_stop_string() -> None:
    assert "".join(written(b"bab", ["ab"], prompt="a")) == "ab"


@pytest.mark.parametrize("stops", [("abcd", "bc"), ("bc", "abcd")])
def test_of_several_stop_strings_the_one_that_is_whole_first_counts(stops: tuple[str, str]) -> None:
    assert "".join(written(b"xabcde", stops)) == "xxa"


def test_the_end_of_a_document_shows_what_was_held_back() -> None:
    assert written([*b"ab", 256], ["bc"]) == ["x", "a", "b"]


SMALL = st.text("ab\u00e9", max_size=30)


@given(text=SMALL, stops=st.lists(st.text("ab\u00e9", min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_text_grows_towards_what_stands_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    says = text.encode()
    grown = Text(Continuation(BYTES), [0], Sampling(max_tokens=max(1, len(says)), stop=tuple(stops)))
    shown = ""
    for byte in says:
        if grown.finish_reason is None:
            grown.add(byte)
            shown += grown.take()
            assert expected.startswith(shown)
    assert grown.text == shown == expected
    assert grown.finish_reason == ("stop" if ends else "length" if says else None)
