"""The words that texts are compared by, whatever the tokenizer: without case and punctuation, in any language."""

import re

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[^\W_]+")
"""Letters and digits; of Chinese and Japanese each character is one."""
MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose multiples spread over all 64 bits (Knuth 1998, section 6.4)."""
SINGLE = re.compile("[\u3040-\u30ff\u3400-\u9fff]")


def words_of(text: str) -> list[str]:
    """Return the words that texts are compared by.

    Example:
        >>> words_of("It's 4 o'clock.")
        ['it', 's', '4', 'o', 'clock']
    """
    return WORD.findall(SINGLE.sub(r" \g<0> ", text.lower()))


def stretches_of(hashes_N: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Return a hash of each stretch of `size` words, given a hash or a number of each word."""
    count = len(hashes_N) - size + 1
    keys = np.full(count, size, dtype=np.uint64)
    for offset in range(size):
        keys = (keys ^ hashes_N[offset : offset + count]) * MIX
        keys ^= keys >> np.uint64(29)
    return keys
