"""One token a word, for corpora that come tokenized (WikiText, Penn Treebank).

Words stand between white space, every line end is <eos>, words outside the vocabulary are <unk>: the convention of word
level language modelling, and the one tokenizer here that does not give back exactly the text it got.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lmexp.config.tokenizer import WordsConfig
from lmexp.tokenization.base import STRETCH_CHARACTERS, Tokenizer, in_stretches, require_unicode

UNKNOWN, END = "<unk>", "<eos>"
WHITE_SPACE = re.compile(r"\s")


class Words(Tokenizer):
    """A table from words to ids, the most frequent words first."""

    def __init__(self, config: WordsConfig, *, learned: list[str]) -> None:
        super().__init__(config, learned=learned)
        self.vocab_size = len(learned)
        self._id_of_word = {word: i for i, word in enumerate(learned)}
        self._unknown_id = self._id_of_word[UNKNOWN]
        self._end_id = self.end_of_document_id = self._id_of_word[END]

    @staticmethod
    def learn(config: WordsConfig, documents: Iterable[Iterable[str]]) -> list[str]:
        counts = Counter({UNKNOWN: 0, END: 0})
        for pieces in documents:
            for text in in_stretches(pieces, STRETCH_CHARACTERS, _after_white_space):
                counts.update(text.split())
                counts[END] += text.count("\n")
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        if config.vocab_size is not None and len(by_frequency) > config.vocab_size:
            kept = [word for word in by_frequency if word not in (UNKNOWN, END)][: config.vocab_size - 2]
            by_frequency = [UNKNOWN, END, *kept]
        return by_frequency

    def encode(self, text: str) -> NDArray[np.int64]:
        find, unknown, end = self._id_of_word.get, self._unknown_id, self._end_id
        ids: list[int] = []
        for number, line in enumerate(require_unicode(text).split("\n")):
            if number:
                ids.append(end)
            ids += [find(word, unknown) for word in line.split()]
        return np.array(ids, dtype=np.int64)

    def cut(self, text: str, first: int) -> int | None:
        return _after_white_space(text, first)

    def decode(self, ids: Sequence[int]) -> str:
        text = " ".join("\n" if i == self.end_of_document_id else self.learned[i] for i in ids)
        return text.replace(" \n", "\n").replace("\n ", "\n")


def _after_white_space(text: str, first: int) -> int | None:
    found = WHITE_SPACE.search(text, first - 1)
    return found.end() if found else None
