"""The words that texts are compared by, whatever the tokenizer: without case and punctuation, in any language."""

import re

WORD = re.compile(r"[^\W_]+")
"""Letters and digits; of Chinese and Japanese each character is one."""
SINGLE = re.compile("[\u3040-\u30ff\u3400-\u9fff]")


def words_of(text: str) -> list[str]:
    """Return the words that texts are compared by.

    Example:
        >>> words_of("It's 4 o'clock.")
        ['it', 's', '4', 'o', 'clock']
    """
    return WORD.findall(SINGLE.sub(r" \g<0> ", text.lower()))
