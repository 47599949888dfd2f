"""The tokenizer of a pretrained model: its tokenizer.json, run by Hugging Face's `tokenizers` alone.

The ids are transformers' own without special tokens: what a template adds (<s>, [CLS]) is left out, for our corpora put
the end of a document themselves. A special token spelled out in a text counts as one, as in transformers, unless the
folder says `split_special_tokens`. What has no tokenizer.json (a .gguf file, vocab.txt, a SentencePiece model) is
converted by transformers, offline and without remote code.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp.config.tokenizer import HFTokenizerConfig
from lmexp.errors import DataError, MissingPackageError
from lmexp.tokenization.base import Tokenizer, require_unicode

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("split_special_tokens", "clean_up_tokenization_spaces", "chat_template")
"""The keys of tokenizer_config.json that are kept beside tokenizer.json."""


class HuggingFace(Tokenizer):
    """`learned` is {"tokenizer": the content of tokenizer.json, "settings": some keys of tokenizer_config.json}."""

    def __init__(self, config: HFTokenizerConfig, *, learned: dict[str, dict[str, Any]]) -> None:
        super().__init__(config, learned=learned)
        tokenizer, settings = _from_json(learned["tokenizer"]), learned["settings"]
        named = [settings[key] for key in SPECIAL if key in settings]
        there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        tokenizer.add_special_tokens([t for t in named if t not in there and tokenizer.token_to_id(t) is not None])
        tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.vocab_size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
        self.begin_of_text_id = self._id("bos_token") if "bos_token" in settings else self._id("cls_token")
        self.end_of_document_id = self._id("eos_token") if "eos_token" in settings else self._id("sep_token")
        self.mask_id = self._id("mask_token")
        added = tokenizer.get_added_tokens_decoder().items()
        self.special_ids = {token.content: i for i, token in added if token.special}
        self.special_names = {key: settings[key] for key in SPECIAL if key in settings}
        self.chat_template = _default_template(settings.get("chat_template"))

    @staticmethod
    def learn(config: HFTokenizerConfig, documents: Iterable[Iterable[str]]) -> dict[str, dict[str, Any]]:
        """Return what the files hold; the documents teach nothing."""
        path = Path(str(config.name_or_path)).expanduser()
        try:
            return _convert(path) if _needs_conversion(path) else _read(path)
        except OSError as error:
            raise DataError(f"{error.filename or path}: the tokenizer cannot be read: {error.strerror}") from None

    def encode(self, text: str) -> NDArray[np.int64]:
        (ids,) = self.encode_all([text])
        return ids

    def encode_all(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        encoded = self._tokenizer.encode_batch([require_unicode(text) for text in texts], add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int64) for one in encoded]

    def encode_literally(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        splits = self._tokenizer.encode_special_tokens
        self._tokenizer.encode_special_tokens = True
        try:
            return self.encode_all(texts)
        finally:
            self._tokenizer.encode_special_tokens = splits

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def _id(self, key: str) -> int | None:
        token = self.learned["settings"].get(key)
        return None if token is None else self._tokenizer.token_to_id(token)


def _default_template(templates: Any) -> str | None:
    """Return the chat template; of several with names the one called default."""
    if isinstance(templates, list):
        templates = {template.get("name"): template.get("template") for template in templates}.get("default")
    return templates if isinstance(templates, str) else None


def _from_json(content: dict[str, Any]) -> Any:
    """Return the `tokenizers.Tokenizer` of a tokenizer.json."""
    try:
        import tokenizers
    except ImportError:
        raise MissingPackageError("tokenizers", "hf") from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises Exception itself, or Rust's panic, which is none
        raise DataError(f"not a tokenizer of Hugging Face: {error}") from None
    if not tokenizer.get_vocab_size():
        raise DataError("a tokenizer of Hugging Face without a token")
    return tokenizer


def _needs_conversion(path: Path) -> bool:
    return path.suffix == ".gguf" or (path.is_dir() and not (path / "tokenizer.json").exists())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    file = path / "tokenizer.json" if path.is_dir() else path
    tokenizer = _read_json(file)
    if tokenizer.get("format") == 1 and "learned" in tokenizer:
        raise DataError(f"{file} is the tokenizer of a run of lmexp: take it with tokenizer=file tokenizer.path={file}")
    try:
        backend = _from_json(tokenizer)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    settings = _read_optional(file.parent / "special_tokens_map.json")
    settings |= _read_optional(file.parent / "tokenizer_config.json")
    template = file.parent / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    if settings.get("eos_token") is None:
        settings["eos_token"] = _end_named_by_the_model(file.parent, backend)
    return {"tokenizer": tokenizer, "settings": _kept(settings)}


def _kept(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that matter here; tokens as plain strings."""
    tokens = {key: settings.get(key) for key in SPECIAL}
    tokens = {key: token.get("content") if isinstance(token, dict) else token for key, token in tokens.items()}
    flags = {key: settings[key] for key in FLAGS if settings.get(key) is not None}
    return {key: token for key, token in tokens.items() if isinstance(token, str)} | flags


def _end_named_by_the_model(folder: Path, backend: Any) -> str | None:
    """Return the token of the id that config.json or generation_config.json calls the end, the first of several."""
    for name in ("config.json", "generation_config.json"):
        end = _read_optional(folder / name).get("eos_token_id")
        end = end[0] if isinstance(end, list) and end else end
        if isinstance(end, int) and end >= 0:
            return backend.id_to_token(end)
    return None


def _convert(path: Path) -> dict[str, dict[str, Any]]:
    """Return what transformers makes of a .gguf file, or of a folder without tokenizer.json."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingPackageError("transformers", "hf") from None
    more = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if more else path
    log = logging.getLogger("transformers")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
        content = json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # whatever a damaged file leads to inside the library
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: transformers cannot read a tokenizer from it: {reason}") from None
    finally:
        log.setLevel(level)
    settings = {key: getattr(tokenizer, key, None) for key in (*SPECIAL, *FLAGS)}
    return {"tokenizer": content, "settings": _kept(settings)}


def _read_optional(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON, perhaps cut short ({error}); copy it from an intact folder") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold keys and values; copy it from an intact folder")
    return content
