"""SentencePiece, set up so that decode(encode(text)) == text for every UTF-8 text.

No normalisation (unless asked for), no dummy prefix, no white-space removal, bytes for what has no piece. One character
needs help: SentencePiece writes spaces as U+2581, so a real U+2581 is spelled in bytes here, and a space always has a
piece, even where the text has none (Chinese). The pieces are learned from chunks of the text and not from its lines, so
newlines and indentation become pieces like any other.
"""

import base64
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from sentencepiece import sentencepiece_model_pb2

from lmexp.config.tokenizer import SentencePieceConfig
from lmexp.errors import DataError
from lmexp.tokenization.base import STRETCH_CHARACTERS, Tokenizer, require_unicode

UNKNOWN_ID, END_ID, FIRST_BYTE_ID = 0, 1, 2
SPACE_MARK = "\u2581"
RESERVED = re.compile("[\0\t\u2585]")
CHUNK_CHARACTERS = 2000
# A piece has spaces at its start only, so a text cut before a run of them has the same pieces. Long texts are cut, for
# on them bpe is several times slower and unigram loses digits in its sums.
ENCODED_AT_ONCE = re.compile(r"(?s).{1000}.*?\S(?= )|.+")
# SentencePiece sums scores in 32 bits, so that of equally good ways to cut a run of spaces noise would choose one. Sums
# of multiples of 1/256 are exact up to 65,536, and every program that knows the scores cuts in the same way.
SCORE_STEPS = 256


class SentencePiece(Tokenizer):
    """A SentencePiece model (bpe or unigram) whose bytes `learned` holds in base64."""

    end_of_document_id = END_ID

    def __init__(self, config: SentencePieceConfig, *, learned: str) -> None:
        super().__init__(config, learned=learned)
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(learned))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"not a SentencePiece model: {error}") from None
        self.vocab_size = self.model.vocab_size()

    @staticmethod
    def learn(config: SentencePieceConfig, texts: Iterable[str]) -> str:
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_training_chunks(texts, config.max_training_characters),
                model_writer=model,
                model_type=config.name,
                vocab_size=config.vocab_size,
                character_coverage=config.character_coverage,
                normalization_rule_name=config.normalization.name,
                byte_fallback=True,
                required_chars=SPACE_MARK,
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                max_sentence_length=CHUNK_CHARACTERS * 8,
                unk_id=UNKNOWN_ID,
                eos_id=END_ID,
                bos_id=-1,
                pad_id=-1,
                num_threads=4,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise DataError(_explain(str(error), config.vocab_size)) from None
        content = model.getvalue() if config.name == "bpe" else _with_exact_sums(model.getvalue())
        return base64.b64encode(content).decode()

    def encode(self, text: str) -> NDArray[np.int64]:
        ids: list[int] = []
        for number, part in enumerate(require_unicode(text).split(SPACE_MARK)):
            if number:
                ids += [FIRST_BYTE_ID + byte for byte in SPACE_MARK.encode()]
            found = ENCODED_AT_ONCE.findall(part)
            encoded = (
                self.model.encode(found) if len(found) > 1 else map(self.model.encode, found)
            )  # a list: in threads
            ids += chain.from_iterable(encoded)
        return np.array(ids, dtype=np.int64)

    def stretches(self, text: str, characters: int = STRETCH_CHARACTERS) -> Iterator[str]:
        if SPACE_MARK in text:
            yield text
            return
        start = end = 0
        for found in ENCODED_AT_ONCE.finditer(text):
            end = found.end()
            if end - start >= characters:
                yield text[start:end]
                start = end
        if end > start:
            yield text[start:end]

    def decode(self, ids: Sequence[int]) -> str:
        return self.model.decode([int(i) for i in ids if i not in (UNKNOWN_ID, END_ID)])


def proto_of(model: bytes) -> Any:
    """Return the ModelProto of a model, in which its pieces, scores and tables stand."""
    return sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]


def _with_exact_sums(model: bytes) -> bytes:
    """Return a unigram model whose scores are rounded; those of bpe are whole numbers already."""
    proto = proto_of(model)
    for piece in proto.pieces:
        piece.score = round(piece.score * SCORE_STEPS) / SCORE_STEPS
    return proto.SerializeToString(deterministic=True)


def _training_chunks(texts: Iterable[str], max_characters: int) -> Iterator[str]:
    """Yield chunks cut at white space; of long texts every n-th, so that the whole is seen evenly."""
    whole = list(texts)
    stride = max(1, -(-sum(map(len, whole)) // max_characters))
    for chunk in islice((chunk for text in whole for chunk in _cut(text)), 0, None, stride):
        yield RESERVED.sub(" ", chunk)


def _cut(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + CHUNK_CHARACTERS
        if end < len(text):
            space = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = space if space > start else end
        yield text[start:end]
        start = end


def _explain(error: str, vocab_size: int) -> str:
    largest = re.search(r"<= (\d+)", error)
    if largest:
        most = largest[1]
        return f"tokenizer.vocab_size={vocab_size}: the text gives at most {most} tokens; set it to {most} or less"
    smallest = re.search(r"\d+ vs (\d+)", error)
    if smallest:
        need = f"the characters of this text alone need {smallest[1]}"
        return f"tokenizer.vocab_size={vocab_size}: {need}; set it to {smallest[1]} or more"
    if "is empty" in error or "sentences_" in error:
        return "the training split has no text to learn a tokenizer from"
    return f"SentencePiece cannot learn from this text: {error}"
