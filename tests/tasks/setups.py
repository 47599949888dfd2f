"""Real text, cut into batches without a run around them."""

from functools import cache
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from lmexp.config.data import DataConfig, PythonDocsConfig
from lmexp.config.tokenizer import BPEConfig, TokenizerConfig
from lmexp.tokenization import TokenFile, Tokenizer, learn
from lmexp.tokenization.token_files import SplitCounts

TEXTS = tuple(topics.values())
"""Python's own manual: some 700,000 characters in about 80 documents."""


def shape(batch_size: int, context_length: int, **more: Any) -> DataConfig:
    """Return how batches are cut."""
    return PythonDocsConfig(batch_size=batch_size, context_length=context_length, **more)


@cache
def bpe() -> Tokenizer:
    """Return a tokenizer of pieces of words."""
    return learn(BPEConfig(vocab_size=1000), TEXTS)


def tokenizer_of(config: TokenizerConfig) -> Tokenizer:
    """Return a tokenizer learned from the texts."""
    return learn(config, TEXTS)


def tokens_of(tokenizer: Tokenizer, texts: tuple[str, ...] = TEXTS) -> TokenFile:
    """Return documents as a split, each with the token that ends it."""
    end = [] if tokenizer.end_of_document_id is None else [tokenizer.end_of_document_id]
    documents = [np.append(tokenizer.encode(text), end).astype(np.uint32) for text in texts]
    starts = np.cumsum([0, *map(len, documents)])
    ids = np.concatenate(documents)
    counts = SplitCounts(tokens=len(ids), documents=len(texts), bytes=sum(len(text.encode()) for text in texts))
    return TokenFile(ids=ids, document_starts=starts[:-1], counts=counts)
