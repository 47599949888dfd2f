"""The parts of a SentencePiece model in the words of Hugging Face's `tokenizers`.

Both programs merge, or score, in the same way; what differs is how the vocabulary is told: merges in order of rank
instead of scores of pieces, and a list of scores in which bytes and special tokens stand among the pieces.
"""

import base64
from typing import Any

from lmexp.tokenization.sentencepiece import FIRST_BYTE_ID, SPACE_MARK, SentencePiece, proto_of

WORST_OF_NAME = 8.0
"""A byte token scores this often the worst piece: less than the pieces of its name, which has at most 6 characters."""


def bpe_model(tokenizer: SentencePiece) -> dict[str, Any]:
    """Return the model with its merges: the piece with the highest score first, whichever two pieces make it."""
    names, scores = _pieces(tokenizer)
    vocab = {name: i for i, name in enumerate(names)}
    first = FIRST_BYTE_ID + 256
    normal = set(names[first:])
    by_score = sorted(range(first, len(names)), key=lambda i: (-scores[i], i))
    merges = [
        [names[i][:cut], names[i][cut:]]
        for i in by_score
        for cut in reversed(range(1, len(names[i])))
        if names[i][:cut] in normal and names[i][cut:] in normal
    ]
    return {"model": {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": merges}}


def unigram_model(tokenizer: SentencePiece) -> dict[str, Any]:
    """Return the model with its scores, set up so that no special token is found in a text by its name."""
    names, scores = _pieces(tokenizer)
    first = FIRST_BYTE_ID + 256
    floor = WORST_OF_NAME * min(scores[first:])
    vocab = [[name, floor if i < first else scores[i]] for i, name in enumerate(names)]
    # a character without a piece of its own is never part of one: cutting around it changes nothing else
    unknown = sorted(set("".join(names[:first])) - set(names[first:]))
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True}
    if not unknown:
        return {"model": model}
    pattern = {"Regex": "[" + "".join(f"\\x{{{ord(character):x}}}" for character in unknown) + "]"}
    return {
        "pre_tokenizer": {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False},
        "model": model,
    }


def precompiled_normalizer(tokenizer: SentencePiece) -> dict[str, Any] | None:
    """Return the table of characters to replace, if the tokenizer replaces any (nfkc).

    `tokenizers` looks characters up in it in another way where a letter is followed by separate combining marks, so
    that texts such as decomposed Vietnamese or Korean may have other ids there; no single character has.
    """
    table = proto_of(base64.b64decode(tokenizer.learned)).normalizer_spec.precompiled_charsmap
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()} if table else None


def _pieces(tokenizer: SentencePiece) -> tuple[list[str], list[float]]:
    """Return names and scores by id: special tokens, 256 bytes, pieces with real spaces."""
    model, size = tokenizer.model, tokenizer.vocab_size
    return [model.id_to_piece(i).replace(SPACE_MARK, " ") for i in range(size)], [
        model.get_score(i) for i in range(size)
    ]
