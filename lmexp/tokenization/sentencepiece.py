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
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from sentencepiece import sentencepiece_model_pb2

from lmexp.config.tokenizer import Normalization, SentencePieceConfig
from lmexp.errors import DataError
from lmexp.tokenization.base import Tokenizer, require_unicode

UNKNOWN_ID, END_ID, FIRST_BYTE_ID = 0, 1, 2
SPACE_MARK = "\u2581"
IDS_OF_SPACE_MARK = [FIRST_BYTE_ID + byte for byte in SPACE_MARK.encode()]
RESERVED = re.compile("[\0\t\u2585]")
CHUNK_CHARACTERS = 2000
# Long texts are encoded in parts, for on them bpe is several times slower and unigram loses digits in its sums.
PART_CHARACTERS = 1000
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
        self._is_normalized = config.normalization is not Normalization.identity
        self._neighbours = {
            first + second
            for i in range(self.vocab_size)
            for first, second in pairwise(self.model.id_to_piece(i).replace(SPACE_MARK, " "))
        }

    @staticmethod
    def learn(config: SentencePieceConfig, documents: Iterable[Iterable[str]]) -> str:
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(_training_chunks(documents, config.max_training_characters)),
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
        (ids,) = self.encode_all([text])
        return ids

    def encode_all(self, texts: Sequence[str]) -> Iterable[NDArray[np.int64]]:
        parts_of = [list(self._parts(require_unicode(text))) for text in texts]
        parts = list(chain.from_iterable(parts_of))
        # threads divide a list; for one part they would cost more than they bring
        encoded = iter(self.model.encode(parts) if len(parts) > 1 else map(self.model.encode, parts))
        for parts in parts_of:
            ids = chain.from_iterable(
                IDS_OF_SPACE_MARK if part == SPACE_MARK else found
                for part, found in zip(parts, islice(encoded, len(parts)), strict=True)
            )
            yield np.fromiter(ids, dtype=np.int64)

    def _parts(self, text: str) -> Iterator[str]:
        for number, between in enumerate(text.split(SPACE_MARK)):
            if number:
                yield SPACE_MARK
            yield from self.stretches([between], PART_CHARACTERS)

    def cut(self, text: str, first: int) -> int | None:
        """Return the first position between two characters that stand side by side in no piece.

        What normalisation makes of a character is not known here; then a cut is before a space, for a piece has spaces
        at its start only.
        """
        for position in range(first, len(text)):
            before, after = text[position - 1], text[position]
            if before + after not in self._neighbours and (
                not self._is_normalized or (after == " " and not before.isspace())
            ):
                return position
        return None

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


def _training_chunks(documents: Iterable[Iterable[str]], max_characters: int) -> list[str]:
    """Return chunks cut at white space; of long texts every second, fourth, ... so that the whole is seen evenly."""
    kept: list[str] = []
    stride, size = 1, 0
    for number, chunk in enumerate(chunk for pieces in documents for chunk in _chunks(pieces)):
        if number % stride == 0:
            kept.append(RESERVED.sub(" ", chunk))
            size += len(chunk)
        if size > max_characters:
            kept, stride = kept[::2], stride * 2
            size = sum(map(len, kept))
    return kept


def _chunks(pieces: Iterable[str]) -> Iterator[str]:
    text = ""
    for piece in pieces:
        text += piece
        start = 0
        while (end := start + CHUNK_CHARACTERS) < len(text):
            space = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = space if space > start else end
            yield text[start:end]
            start = end
        text = text[start:]
    if text:
        yield text


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
