"""What a model writes where it is known what it should write: questions with their answers, sources with targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmexp.config.data import DataConfig
from lmexp.data.packing import usable
from lmexp.generation.forms import Form
from lmexp.generation.rows import evaluating
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, sample, search_texts
from lmexp.models.state import LanguageModel
from lmexp.tokenization import TokenFile

ROWS = 32


@dataclass(frozen=True)
class Question:
    """What the model reads, and what it should write then."""

    ids: list[int]
    answer: str


def questions_of(file: TokenFile, config: DataConfig, form: Form, count: int) -> list[Question]:
    """Return the first conversations of a split that have an answer to learn, each up to its last one."""
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


def answers(model: LanguageModel, form: Form, questions: Sequence[Question], sampling: Sampling) -> list[str]:
    """Return the likeliest answers: token by token, or found by beam search; like lengths are written together."""
    texts = [Text(form, question.ids, sampling) for question in questions]
    order = sorted(range(len(texts)), key=lambda number: len(questions[number].ids))
    found = [""] * len(texts)
    with evaluating(model):
        for start in range(0, len(texts), ROWS):
            numbers = order[start : start + ROWS]
            batch = [texts[number] for number in numbers]
            if sampling.num_beams > 1:
                batch = [results[0][0] for results in search_texts(model, batch, sampling)]
            else:
                for _ in sample(model, batch, sampling):
                    pass
            for number, text in zip(numbers, batch, strict=True):
                found[number] = text.text
    return found
