"""Texts that are hard for a tokenizer, real lines, and tokenizers as a published model has them."""

import inspect
import json
import re
from pathlib import Path
from pydoc_data.topics import topics

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.conftest import SHARED

CODE = "x = 1\n\tif x:\n    return  {'é': '日本語'}\r\n</s> <unk> <0x41>\n"
TRAINING_TEXT = "".join(topics.values())[:50_000] + CODE * 20
HARD = [
    "",
    " ",
    "   ",
    " a",
    "a ",
    "\n",
    "\n\n\t\t  x  \n",
    "a\r\nb\rc\n",
    "\0",
    "a\0b",
    "\ufeffa",
    "\u2581",
    " \u2581 \u2581\u2581",
    "\u2585",
    "\u2047 \u2047",
    "</s>",
    "</s><unk><s><0x41><0xE2>",
    "<eos>",
    "e\u0301 é ﬁ \u00a0\u3000\u2028\u0085",
    "😀👩‍👩‍👧\U0010ffff\ud7ff\ue000\uffff",
    "日本語 中文",
    "\x1c\x7f\x80\xff",
    "ab" * 6000 + " " + "c" * 12000 + "  d" * 6000,
]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(HARD[:-1]), max_size=8).map("".join)

END_OF_TEXT = "<|endoftext|>"


def write_byte_level(folder: Path, text: str, *, vocab_size: int = 400, **settings: object) -> None:
    """Write a byte-level BPE like GPT-2's, with its end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(END_OF_TEXT, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


EMOJI = re.compile("[\U0001f300-\U0001faff]")
CHINESE = re.compile("[\u4e00-\u9fff]")
REAL_FILES = {
    "raw-documents/wiki_demo.txt": 30,
    "raw-documents/c4_demo.jsonl": 90,
    "raw-documents/ftfy-in-the-wild.json": 30,
    "raw-documents/html/github.blog.spiceland.html": 100,
    "raw-documents/html/bmjv.de.konsum.html": 100,
    "chat/glaive_toolcall_en_demo.json": 100,
    "chat/v1_sft_demo.jsonl": 50,
    "sft/alpaca_en_demo.json": 50,
    "sft/alpaca_zh_demo.json": 100,
    "chinese-poetry/唐诗三百首.json": 150,
    "summarization/csl_ts_dev.tsv": 100,
    "rt-polarity/rt-polarity.neg": 50,
    "wikitext-2/valid.txt": 50,
}
"""How many lines are taken of each; those with an emoji first."""


def real_lines() -> list[str]:
    """Return 1,000 lines as people write them, with Chinese, emoji, tabs and runs of spaces; made up where there are no
    real ones."""
    lines = [line for name, count in REAL_FILES.items() for line in _some_lines(name, count)] if SHARED.is_dir() else []
    return [*lines, *_made_up_lines(1000 - len(lines))]


def _some_lines(name: str, count: int) -> list[str]:
    text = (SHARED / name).read_text(encoding="utf-8", errors="replace")
    lines = [line[:2000] for line in text.split("\n") if line]
    with_emoji = [line for line in lines if EMOJI.search(line)]
    return (with_emoji + lines[:: max(1, len(lines) // count)])[:count]


def _made_up_lines(count: int) -> list[str]:
    code = inspect.getsource(json.decoder).split("\n") + TRAINING_TEXT.split("\n")
    odd = ["\t\t", "     ", "天地玄黃 宇宙洪荒", "👍🏽🎉", "\u2581", " - ", "é", "<0x0A>", "  \t "]
    return [code[i % len(code)] + odd[i % len(odd)] + code[-i % len(code)] for i in range(count)]
