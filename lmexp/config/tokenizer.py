"""How text becomes numbers and comes back."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from lmexp.config.schema import Option, setting

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""What a folder may hold its tokenizer in; transformers converts all but the first."""


class Normalization(Enum):
    """Changes to the text before it is tokenized."""

    identity = "identity"
    nfkc = "nfkc"


@dataclass(kw_only=True)
class TokenizerConfig(Option):
    """What every tokenizer option has: nothing yet, for bytes need no setting."""

    group = "tokenizer"
    is_learned: ClassVar[bool] = True
    """Made from the training split; else files hold it, and what they hold is its identity, not where they are."""


@dataclass(kw_only=True)
class SentencePieceConfig(TokenizerConfig):
    """Pieces of words learned from the training split by SentencePiece, with bytes for what they do not cover."""

    builds = "lmexp.tokenization.sentencepiece:SentencePiece"

    vocab_size: int = setting(2048, at_least=258)
    """Number of tokens, the 256 bytes and the special ones included. Larger: shorter texts, a larger model."""
    normalization: Normalization = setting(Normalization.identity)
    """identity keeps every character, so that decode(encode(text)) == text; nfkc folds look-alikes (ﬁ to fi)."""
    character_coverage: float = setting(0.9995, above=0, at_most=1)
    """Share of the characters that get a token of their own; the rest are spelled in bytes."""
    max_training_characters: int = setting(20_000_000, at_least=1000)
    """The pieces are learned from at most so many characters, taken evenly from the whole training split."""


@dataclass(kw_only=True)
class BPEConfig(SentencePieceConfig):
    """Byte-pair encoding (SentencePiece): merges the most frequent pairs."""

    name = "bpe"


@dataclass(kw_only=True)
class UnigramConfig(SentencePieceConfig):
    """Unigram language model (SentencePiece): keeps the pieces that explain the text best."""

    name = "unigram"


@dataclass(kw_only=True)
class CharactersConfig(TokenizerConfig):
    """One token a character of the training split, in the order of their code points."""

    name = "characters"
    builds = "lmexp.tokenization.characters:Characters"

    byte_fallback: bool = setting(True)
    """Add 256 byte tokens, so that characters outside the training split can be written; false refuses them."""
    end_of_document: bool = setting(True)
    """Add a token for the end of a document; false, with data.end_of_document=false, has characters only."""


@dataclass(kw_only=True)
class BytesConfig(TokenizerConfig):
    """One token a byte of UTF-8."""

    name = "bytes"
    builds = "lmexp.tokenization.bytes:Bytes"


@dataclass(kw_only=True)
class WordsConfig(TokenizerConfig):
    """One token a word between spaces, for corpora that come tokenized; line ends become <eos>, other words <unk>."""

    name = "words"
    builds = "lmexp.tokenization.words:Words"

    vocab_size: int | None = setting(None, at_least=3)
    """Keep the most frequent words, <unk> and <eos> included; null keeps every word of the training split."""


@dataclass(kw_only=True)
class HFTokenizerConfig(TokenizerConfig):
    """The tokenizer of a pretrained model, as it stands in its tokenizer.json."""

    name = "hf"
    builds = "lmexp.tokenization.huggingface:HuggingFace"
    is_learned = False

    name_or_path: str | None = setting(None, identity=False)
    """A folder with tokenizer.json, that file, or a .gguf file; null takes model.name_or_path."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.name_or_path is None:
            yield "name_or_path", "must be given: a folder with tokenizer.json, that file, or a .gguf file"
            return
        path = Path(self.name_or_path).expanduser()
        if not path.exists():
            yield "name_or_path", f"nothing is there: {path}; tokenizers are read from this machine only"
        elif path.is_dir() and not any((path / name).is_file() for name in TOKENIZER_FILES):
            yield "name_or_path", f"no tokenizer is in the folder {path}: it has none of {', '.join(TOKENIZER_FILES)}"
        elif path.is_file() and path.suffix not in (".json", ".gguf"):
            yield "name_or_path", f"must be a folder, a tokenizer.json or a .gguf file, not {path}"


@dataclass(kw_only=True)
class FileTokenizerConfig(TokenizerConfig):
    """The tokenizer of a run, from its tokenizer.json."""

    name = "file"
    builds = "lmexp.tokenization.base:load"
    is_learned = False

    path: str | None = setting(None, identity=False)
    """The file tokenizer.json in a run folder; must be given."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.path is None:
            yield "path", "must be given: tokenizer.path=outputs/.../tokenizer.json"
        elif not (path := Path(self.path).expanduser()).exists():
            yield "path", f"nothing is there: {path}"
        elif path.is_dir():
            yield "path", f"is a folder; give the file: {path / 'tokenizer.json'}"
