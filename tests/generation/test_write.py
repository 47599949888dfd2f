"""Text as it grows."""

from collections.abc import Sequence

import pytest

from lmexp.config.tokenizer import BPEConfig, BytesConfig, CharactersConfig, WordsConfig
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import generate, write
from lmexp.tokenization import Tokenizer, learn
from lmexp.tokenization.bytes import Bytes
from tests.generation.setups import Fixed


def written(says: Sequence[int], tokenizer: Tokenizer, prompt: str = "x") -> list[str]:
    model = Fixed(says, tokenizer.vocab_size)
    return list(write(model, Continuation(tokenizer), prompt, Sampling(max_tokens=len(says), temperature=0)))


def test_writing_yields_the_prompt_and_each_character_when_its_bytes_are_there() -> None:
    assert written("aé漢😀b".encode(), learn(BytesConfig(), [])) == ["x", "a", "é", "漢", "😀", "b"]


def test_a_character_that_stays_incomplete_is_shown_at_the_end() -> None:
    assert "".join(written("a漢".encode()[:-1], learn(BytesConfig(), []))) == "xa\ufffd"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    says = b"a\xff\xfe\xc3b\x80"
    assert "".join(written(says, learn(BytesConfig(), []))) == "x" + says.decode("utf-8", "replace")


def test_control_characters_do_not_reach_the_terminal() -> None:
    says = "a\x1b[31m\r\x07\x9b\u202eb\n\tc".encode()
    assert (
        "".join(written(says, learn(BytesConfig(), []), "p\x1b]0;"))
        == "p\ufffd]0;a\ufffd[31m\ufffd\ufffd\ufffd\ufffdb\n\tc"
    )


def test_spaces_and_joiners_of_other_scripts_are_written_as_they_are() -> None:
    text = "全\u3000角 10\u00a0km \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 👩\u200d🚀"
    assert "".join(written(text.encode(), learn(BytesConfig(), []), "")) == text


@pytest.mark.parametrize("config", [BytesConfig(), CharactersConfig(), BPEConfig(vocab_size=285)])
def test_written_and_generated_text_is_what_its_tokens_decode_to(config: object) -> None:
    tokenizer = learn(config, ["two cats  sat on\n\ta mat. é " * 50])
    says = tokenizer.encode("  cats\n\tsat on 漢字 é  mats ").tolist()
    expected = tokenizer.decode(says)
    assert "".join(written(says, tokenizer, "two ")) == "two " + expected
    sampling = Sampling(max_tokens=len(says), temperature=0)
    assert generate(Fixed(says, tokenizer.vocab_size), Continuation(tokenizer), "two ", sampling) == expected


def test_words_are_written_with_spaces_between() -> None:
    tokenizer = learn(WordsConfig(vocab_size=None), ["the cat sat on the mat\n"])
    says = tokenizer.encode("sat on the mat").tolist()
    assert "".join(written(says, tokenizer, "the cat")) == "the cat sat on the mat"


class CountingBytes(Bytes):
    """Counts the ids that it decodes."""

    decoded = 0

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return super().decode(ids)


def test_the_cost_of_writing_grows_with_the_length_not_its_square() -> None:
    costs = []
    for length in (200, 400):
        tokenizer = CountingBytes(BytesConfig(), learned=None)
        written([97] * length, tokenizer)
        costs.append(tokenizer.decoded)
    assert costs[1] < 2.1 * costs[0] < 2.1 * 200 * 5
