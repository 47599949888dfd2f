"""Questions of a split with their answers, and what a model answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmexp.config.data import DataConfig
from lmexp.data.packing import usable
from lmexp.generation.forms import Form
from lmexp.generation.rows import evaluating
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, sample
from lmexp.models.state import LanguageModel
from lmexp.tokenization import TokenFile

ROWS = 32


@dataclass(frozen=True)
class Question:
    """A conversation up to its last answer, as the model reads it, and that answer."""

    ids: list[int]
    answer: str


def questions_of(file: TokenFile, config: DataConfig, form: Form, count: int) -> list[Question]:
    """Return the first questions of a split that have an answer to learn."""
    assert file.is_learned is not None
    questions = []
    examples = usable(file, config)
    for start, length in zip(examples.starts[:count, 0], examples.lengths[:count, 0], strict=True):
        ids, is_learned = (of[start : start + length + 1] for of in (file.ids, file.is_learned))
        last = int(np.flatnonzero(is_learned)[-1])
        before = np.flatnonzero(~is_learned[:last])
        first = int(before[-1]) + 1 if len(before) else 0
        questions.append(Question(ids[:first].tolist(), form.tokenizer.decode(ids[first : last + 1].tolist())))
    return questions


def answer(model: LanguageModel, form: Form, questions: Sequence[Question], *, max_tokens: int) -> list[str]:
    """Return the likeliest answers, token by token."""
    sampling = Sampling(max_tokens=max_tokens, temperature=0)
    texts = [Text(form, question.ids, sampling) for question in questions]
    with evaluating(model):
        for start in range(0, len(texts), ROWS):
            for _ in sample(model, texts[start : start + ROWS], sampling):
                pass
    return [text.text for text in texts]
