"""A tokenizer as a Hugging Face folder, which AutoTokenizer reads with the same ids for every text.

Pieces are written with real spaces where SentencePiece has U+2581, so that a text needs no change and a real U+2581 is
spelled in bytes, as it is in ours. The names of special tokens are text like any other when they stand in a text
(`split_special_tokens`), also as in ours.
"""

import json
from functools import singledispatch
from pathlib import Path
from typing import Any

from lmexp.errors import ConfigError, StorageError
from lmexp.tokenization.base import Tokenizer, WithSpecialTokens
from lmexp.tokenization.bytes import Bytes
from lmexp.tokenization.characters import Characters
from lmexp.tokenization.huggingface import HuggingFace
from lmexp.tokenization.sentencepiece import SentencePiece
from lmexp.tokenization.sentencepiece_export import bpe_model, precompiled_normalizer, unigram_model
from lmexp.tokenization.words import END, UNKNOWN, Words

END_OF_DOCUMENT = "</s>"
WHITE_SPACE = "[\t\n\v\f\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
"""What `str.split` splits at."""
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
"""Of a special token."""
JOINED_WITH_BYTES = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}

Parts = tuple[dict[str, Any], dict[str, int]]
"""The parts of a tokenizer.json, and its special tokens with their ids."""


def write_hf_tokenizer(
    tokenizer: Tokenizer, folder: Path, *, max_length: int | None, chat_template: str | None = None
) -> None:
    """Write tokenizer.json and tokenizer_config.json; `max_length` is the longest text that the model can read.

    Raises:
        ConfigError: the tokenizer is of a kind that has no counterpart.
        StorageError: the files cannot be written.
    """
    added: list[dict[str, Any]] = []
    if isinstance(tokenizer, WithSpecialTokens):
        added = [{"id": tokenizer.special_ids[name], "content": name, **FLAGS} for name in tokenizer.names]
        tokenizer = tokenizer.base
    if isinstance(tokenizer, HuggingFace):
        content, settings = tokenizer.learned["tokenizer"], tokenizer.learned["settings"]
    else:
        parts, special = _parts(tokenizer)
        content = _tokenizer_json(parts, special)
        ends = [token for token, i in special.items() if i == tokenizer.end_of_document_id]
        settings = {"split_special_tokens": True, "clean_up_tokenization_spaces": False}
        settings |= {"eos_token": ends[0]} if ends else {}
    if added:  # then names of special tokens are found in texts, for a chat template writes them there
        content = content | {"added_tokens": [*content["added_tokens"], *added]}
        settings = {key: value for key, value in settings.items() if key != "split_special_tokens"}
    if chat_template is not None:
        settings = settings | {"chat_template": chat_template}
    length = {} if max_length is None else {"model_max_length": max_length}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **settings, **length}
    try:
        for name, values in (("tokenizer.json", content), ("tokenizer_config.json", settings)):
            (folder / name).write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{error.filename or folder}: {error.strerror or error}") from None


def _tokenizer_json(parts: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **FLAGS} for token, i in special.items()],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        **parts,
    }


@singledispatch
def _parts(tokenizer: Tokenizer) -> Parts:
    raise ConfigError(f"tokenizer={tokenizer.config.name} has no counterpart in Hugging Face's tokenizers")


@_parts.register
def _(tokenizer: SentencePiece) -> Parts:
    parts = bpe_model(tokenizer) if tokenizer.config.name == "bpe" else unigram_model(tokenizer)
    special = {"<unk>": 0, END_OF_DOCUMENT: tokenizer.end_of_document_id}
    return {"normalizer": precompiled_normalizer(tokenizer), "decoder": JOINED_WITH_BYTES, **parts}, special


@_parts.register
def _(tokenizer: Characters) -> Parts:
    vocab = {character: i for i, character in enumerate(tokenizer.learned)}
    special = {} if tokenizer.end_of_document_id is None else {END_OF_DOCUMENT: tokenizer.end_of_document_id}
    if tokenizer.byte_fallback:
        bytes_ = {f"<0x{byte:02X}>": tokenizer.num_characters + byte for byte in range(256)}
        model = {"type": "BPE", "byte_fallback": True, "vocab": vocab | bytes_ | special, "merges": []}
        return {"decoder": JOINED_WITH_BYTES, "model": model}, special
    # for a character that it does not have, WordLevel asks for a token that it does not have either, and fails
    model = {"type": "WordLevel", "vocab": vocab | special, "unk_token": "an unknown character"}
    each = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": each, "decoder": {"type": "Fuse"}, "model": model}, special


@_parts.register
def _(tokenizer: Bytes) -> Parts:
    printed = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in printed]  # ByteLevel shows these as U+0100 and on
    shown = {chr(byte): byte for byte in printed} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
    special = {END_OF_DOCUMENT: tokenizer.end_of_document_id}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "vocab": shown | special, "merges": []}
    return {"pre_tokenizer": level, "decoder": level, "model": model}, special


@_parts.register
def _(tokenizer: Words) -> Parts:
    vocab = {word: i for i, word in enumerate(tokenizer.learned)}
    line_ends = {"type": "Replace", "pattern": {"String": "\n"}, "content": f" {END} "}
    between = {"type": "Split", "pattern": {"Regex": WHITE_SPACE}, "behavior": "Removed", "invert": False}
    decoders: list[dict[str, Any]] = [
        {"type": "WordPiece", "prefix": "\n", "cleanup": False},  # no word begins so: every one gets a space
        {"type": "Replace", "pattern": {"Regex": f"^ ?{END}$"}, "content": "\n"},
        {"type": "Fuse"},
        {"type": "Replace", "pattern": {"String": "\n "}, "content": "\n"},
    ]
    parts = {
        "normalizer": line_ends,
        "pre_tokenizer": between,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN},
    }
    return parts, {END: vocab[END]}
