"""Exported tokenizers, as transformers' AutoTokenizer reads them: the ids of ours for every text, and the text back."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmexp.config.tokenizer import (
    BPEConfig,
    BytesConfig,
    CharactersConfig,
    HFTokenizerConfig,
    Normalization,
    TokenizerConfig,
    UnigramConfig,
    WordsConfig,
)
from lmexp.errors import ConfigError, DataError, StorageError
from lmexp.tokenization import Tokenizer, learn
from lmexp.tokenization.export import WHITE_SPACE, write_hf_tokenizer
from tests.tokenization.setups import HARD, TEXTS, TRAINING_TEXT, real_lines, write_byte_level

LINES = real_lines()
CONFIGS: dict[str, TokenizerConfig] = {
    "bytes": BytesConfig(),
    "characters": CharactersConfig(),
    "characters alone": CharactersConfig(byte_fallback=False, end_of_document=False),
    "words": WordsConfig(vocab_size=3000),
    "bpe": BPEConfig(vocab_size=2000),
    "unigram": UnigramConfig(vocab_size=2000),
    "hf": HFTokenizerConfig(),
}
NFKC = {
    "bpe nfkc": BPEConfig(vocab_size=2000, normalization=Normalization.nfkc),
    "unigram nfkc": UnigramConfig(vocab_size=2000, normalization=Normalization.nfkc),
}
ALL = pytest.mark.parametrize("name", CONFIGS)
SPACES = st.text(alphabet="a \n\t\u2581<0x41>/snkeo", max_size=80)


@cache
def text_to_learn_from() -> str:
    """Every third line: the others have characters and words that no tokenizer has seen."""
    return TRAINING_TEXT + "\n".join(LINES[::3])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a name to (our tokenizer, transformers')."""
    from transformers import AutoTokenizer

    @cache
    def make(name: str) -> tuple[Tokenizer, Any]:
        folder, config = tmp_path_factory.mktemp("exported"), (CONFIGS | NFKC)[name]
        if isinstance(config, HFTokenizerConfig):
            original = tmp_path_factory.mktemp("original")
            write_byte_level(original, TRAINING_TEXT)
            config = HFTokenizerConfig(name_or_path=str(original))
        everything = name == "characters alone"
        ours = learn(config, ["\n".join([*LINES, *HARD]) if everything else text_to_learn_from()])
        write_hf_tokenizer(ours, folder, max_length=10**6)
        return ours, AutoTokenizer.from_pretrained(folder)

    return make


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text)["input_ids"]


def assert_same(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, theirs = pair
    try:
        ids = ours.encode(text).tolist()
    except DataError:  # a character that the tokenizer does not have: an error there too
        with pytest.raises(Exception, match="WordLevel error: Missing"):
            theirs(text)
        return
    assert ids_of(theirs, text) == ids
    assert theirs.decode(ids) == ours.decode(ids)


@pytest.mark.parametrize("name", [*CONFIGS, *NFKC])
def test_a_thousand_real_lines_have_the_same_ids_and_come_back(both: Any, name: str):
    assert len(LINES) == 1000
    for line in LINES:
        assert_same(both(name), line)


@ALL
@pytest.mark.parametrize("text", HARD, ids=lambda text: ascii(text)[:30])
def test_a_hard_text_has_the_same_ids_and_comes_back(both: Any, name: str, text: str):
    assert_same(both(name), text)


@ALL
@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=TEXTS | SPACES)
@example(text="<0x41>" * 3 + "</s><unk><eos> <eos>a a<eos>\n<eos>")
def test_every_text_has_the_same_ids_and_comes_back(both: Any, name: str, text: str):
    assert_same(both(name), text)


@ALL
def test_the_folder_says_what_the_tokenizer_is(both: Any, name: str):
    ours, theirs = both(name)
    assert len(theirs) == ours.vocab_size
    assert theirs.eos_token_id == ours.end_of_document_id
    assert theirs.bos_token is None
    assert theirs.model_max_length == 10**6
    if ours.end_of_document_id is not None and name != "words":
        assert theirs.decode([ours.end_of_document_id], skip_special_tokens=True) == ""


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gpt2"])
def test_beside_the_config_of_a_model_it_is_read_all_the_same(both: Any, tmp_path: Path, model_type: str):
    from transformers import AutoTokenizer

    ours, _ = both("bpe")
    write_hf_tokenizer(ours, tmp_path, max_length=None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": ours.vocab_size}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*HARD, *LINES[::20]]:
        assert_same((ours, theirs), text)


@pytest.mark.parametrize("option", [BPEConfig, UnigramConfig])
@pytest.mark.parametrize("letters", ["ab", "a ", "aab  \n"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_of_pieces_that_overlap_the_same_ones_are_taken(option: Any, letters: str, data: st.DataObject):
    ours, theirs = _of_few_letters(option, letters)
    text = data.draw(st.text(alphabet=letters, max_size=100))
    assert theirs.encode(text).ids == ours.encode(text).tolist()


@cache
def _of_few_letters(option: Any, letters: str) -> tuple[Tokenizer, Any]:
    """Return a tokenizer of pieces that can be cut in many ways, ours and exported."""
    import random
    import tempfile

    from tokenizers import Tokenizer as Backend

    rng = random.Random(0)
    ours = learn(option(vocab_size=268), ["".join(rng.choices(letters, k=20_000))])
    with tempfile.TemporaryDirectory() as folder:
        write_hf_tokenizer(ours, Path(folder), max_length=None)
        return ours, Backend.from_file(f"{folder}/tokenizer.json")


def test_an_exported_tokenizer_comes_back_as_it_was(both: Any, tmp_path: Path):
    ours, _ = both("unigram")
    write_hf_tokenizer(ours, tmp_path, max_length=None)
    again = learn(HFTokenizerConfig(name_or_path=str(tmp_path)), ())
    assert (again.vocab_size, again.end_of_document_id) == (ours.vocab_size, ours.end_of_document_id)
    for text in [*HARD, *LINES[::20]]:
        assert again.encode(text).tolist() == ours.encode(text).tolist()


def test_words_end_where_python_ends_them():
    import re

    split = "".join(character for character in map(chr, range(0x110000)) if character.isspace())
    assert re.fullmatch(WHITE_SPACE, split)
    assert not re.search(WHITE_SPACE, "".join(map(chr, set(range(0x110000)) - set(map(ord, split)))))


def test_bytes_that_are_no_character_are_read_as_the_replacement_character(both: Any):
    for name in ("bytes", "characters", "bpe"):
        ours, theirs = both(name)
        first_byte = ours.encode("\ue000")[:1]
        assert theirs.decode(first_byte) == ours.decode(first_byte) == "\ufffd"


def test_a_tokenizer_of_a_plug_in_is_refused_by_name(tmp_path: Path):
    class Mine(Tokenizer):
        vocab_size, end_of_document_id = 1, None
        learn = encode = decode = None  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"^tokenizer=bytes has no counterpart in Hugging Face's tokenizers$"):
        write_hf_tokenizer(Mine(BytesConfig(), learned=None), tmp_path, max_length=None)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match="No such file or directory"):
        write_hf_tokenizer(learn(BytesConfig(), ()), tmp_path / "none", max_length=None)
