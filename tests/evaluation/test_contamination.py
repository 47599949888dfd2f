"""Examples that occur in the training text are found, edited case and punctuation included; others are not."""

import random

import pytest

from lmexp.evaluation.contamination import contaminated

WORDS = [f"word{n}" for n in range(3000)]


def sentence(draw: random.Random, length: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(length))


@pytest.mark.parametrize("length", [8, 13, 40])
def test_planted_examples_are_found_and_no_others(length: int):
    draw = random.Random(length)
    planted, clean = ([sentence(draw, length) for _ in range(100)] for _ in range(2))
    training = [f"{sentence(draw, 50)} {one} {sentence(draw, 50)}" for one in planted]
    training += [sentence(draw, 100) for _ in range(100)]
    assert contaminated([*planted, *clean], training) == [True] * 100 + [False] * 100
    edited = [one.upper().replace(" ", ", ", 1) + "!" for one in planted]
    assert all(contaminated(edited, training))


def test_a_part_of_a_long_example_is_enough_and_of_a_short_one_not():
    draw = random.Random(0)
    long, short = sentence(draw, 40), sentence(draw, 10)
    training = [" ".join(long.split()[20:35]), " ".join(short.split()[:9])]
    assert contaminated([long, short], training) == [True, False]


def test_a_few_words_that_everybody_uses_are_nothing():
    assert contaminated(["so good", "", "..."], ["this is so good indeed", ""]) == [False, False, False]


def test_chinese_has_words_of_one_character():
    text = "\u6211\u4eec\u4f4f\u7684\u9152\u5e97\u975e\u5e38\u5e72\u51c0\uff0c\u670d\u52a1\u4e5f\u5f88\u597d"
    assert contaminated([text, text[::-1]], [f"\u597d\u3002{text}\u3002"]) == [True, False]
