"""Numbers in English words and in digits: pairs that every machine has, whose right answer is known.

Example: 312,045 is "three hundred and twelve thousand and forty-five".
"""

import random
from collections.abc import Iterator
from functools import cached_property

from lmexp.config.pairs import NumberWordsConfig
from lmexp.data.pairs import Pair, TextPairs
from lmexp.data.source import SPLITS

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
GROUPS = ((1_000_000, "million"), (1000, "thousand"))
SEED = 0
"""Of the data, not of a run: runs with different seeds learn from the same numbers."""


class NumberWords(TextPairs):
    """Different numbers, of every length about as many, in three splits."""

    config: NumberWordsConfig

    @cached_property
    def fingerprint(self) -> str:
        return f"{self.config.largest:08x}{self.config.num_examples:08x}"

    def pairs(self, split: str) -> Iterator[Pair]:
        for number in self._numbers[split]:
            yield Pair(in_words(number), str(number))

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        draw = random.Random(SEED)
        wanted = min(round(1.1 * self.config.num_examples), self.config.largest + 1)
        held_out = wanted // 22
        numbers: dict[int, None] = {}
        if wanted > self.config.largest // 2:
            numbers = dict.fromkeys(draw.sample(range(self.config.largest + 1), wanted))
        digits = len(str(self.config.largest))
        while len(numbers) < wanted:
            number = draw.randrange(10 ** draw.randint(1, digits))
            if number <= self.config.largest:
                numbers[number] = None
        drawn = list(numbers)
        draw.shuffle(drawn)
        ends = {"val": held_out, "test": 2 * held_out, "train": wanted}
        starts = {"val": 0, "test": held_out, "train": 2 * held_out}
        return {split: drawn[starts[split] : ends[split]] for split in SPLITS}


def in_words(number: int) -> str:
    """Return a number as it is said in English.

    Example:
        >>> in_words(312_045)
        'three hundred and twelve thousand and forty-five'
    """
    for size, name in GROUPS:
        if number >= size:
            rest = number % size
            joined = " and " if 0 < rest < 100 else " "
            return f"{in_words(number // size)} {name}" + (joined + in_words(rest) if rest else "")
    if number >= 100:
        rest = number % 100
        return f"{ONES[number // 100]} hundred" + (f" and {in_words(rest)}" if rest else "")
    if number >= 20:
        ones = number % 10
        return TENS[number // 10 - 2] + (f"-{ONES[ones]}" if ones else "")
    return ONES[number]
