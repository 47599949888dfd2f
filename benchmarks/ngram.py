"""An interpolated Kneser-Ney n-gram model over lmexp's own tokens: the baseline that a neural model has to beat.

    python -m benchmarks.ngram [--order 5] [data=text data.path=FILE tokenizer=bpe ...]

Takes what `lmexp train` takes, counts on the train split, and prints the losses of val and test over the same tokens
and bytes as a run's own metrics: every token but the first of the split. Contexts reach over document borders, as those
of a model do without data.segments. Modified Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999, section 3),
without pruning, ending in even odds over the vocabulary.
Shapes: T tokens, K distinct n-grams, H distinct contexts.
"""

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmexp import compose
from lmexp.data.corpus import Corpus, prepare
from lmexp.metrics import bits_per_byte, perplexity

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

UNSEEN = -1
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Where counts of counts say nothing, as in a tiny text; those of KenLM (Heafield 2011)."""


@dataclass(frozen=True)
class Order:
    """The n-grams of one length. An n-gram is known by its context's number and its last token: number * V + token.

    Shape: (K), (K), (H), (H).
    """

    keys: Ids
    discounted: Floats
    """Counts less their discounts."""
    totals: Floats
    """Counts of each context."""
    backoff: Floats
    """Share of a context's probability that the discounts free for the next lower order."""


@dataclass(frozen=True)
class NGrams:
    """A model of all orders up to n."""

    orders: list[Order]
    vocab_size: int

    def nll(self, ids_T: Ids) -> Floats:
        """Return the negative log-likelihood of every token but the first, each from what is before it.

        Formula: p_n(w | h) = max(c(hw) - D, 0) / c(h) + backoff(h) * p_(n-1)(w | h'), where h' is h without its first
        token; p_0 = 1 / V.
        Shape: (T) -> (T - 1). Unit: nats.
        """
        probability_T = np.full(len(ids_T), 1 / self.vocab_size)
        context_T = np.zeros(len(ids_T), dtype=np.int64)  # the empty context of single tokens
        for order in self.orders:
            gram_T = _find(order.keys, context_T, ids_T, self.vocab_size)
            total_T = np.where(context_T == UNSEEN, 0.0, order.totals[context_T])
            seen = total_T > 0
            own_T = np.where(gram_T == UNSEEN, 0.0, order.discounted[gram_T])[seen] / total_T[seen]
            probability_T[seen] = own_T + order.backoff[context_T[seen]] * probability_T[seen]
            context_T = _one_later(gram_T)
        return -np.log(probability_T[1:])


def fit(ids_T: Ids, order: int, vocab_size: int) -> NGrams:
    """Return the model of a text.

    The highest order counts how often an n-gram occurs; the lower ones before how many different tokens it does.
    """
    order = min(order, len(ids_T))
    keys, grams = [], []
    context_T = np.zeros(len(ids_T), dtype=np.int64)
    for _ in range(order):
        known = context_T != UNSEEN
        keys_K, gram_of_known = np.unique(context_T[known] * vocab_size + ids_T[known], return_inverse=True)
        gram_T = np.full(len(ids_T), UNSEEN)
        gram_T[known] = gram_of_known
        keys.append(keys_K)
        grams.append(gram_T)
        context_T = _one_later(gram_T)
    counts = [_left_extensions(grams[n], grams[n + 1], len(keys[n])) for n in range(order - 1)]
    counts.append(np.bincount(grams[-1][grams[-1] != UNSEEN], minlength=len(keys[-1])))
    num_contexts = [1, *map(len, keys)]
    orders = [_discount(keys[n], counts[n], keys[n] // vocab_size, num_contexts[n]) for n in range(order)]
    return NGrams(orders, vocab_size)


def discounts(counts_K: Ids) -> tuple[float, float, float]:
    """Return what is taken from counts of 1, of 2, and of 3 and more.

    Formula: D_i = i - (i + 1) Y n_(i+1) / n_i with Y = n_1 / (n_1 + 2 n_2), where n_i n-grams have count i.
    Source: Chen and Goodman 1999, equation 26.
    """
    n1, n2, n3, n4 = (int((counts_K == i).sum()) for i in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    exact = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return exact if min(exact) >= 0 else FALLBACK_DISCOUNTS


def _discount(keys_K: Ids, counts_K: Ids, context_K: Ids, num_contexts: int) -> Order:
    discount_K = np.array([0.0, *discounts(counts_K)])[np.minimum(counts_K, 3)]
    total_H = np.bincount(context_K, weights=counts_K, minlength=num_contexts).astype(np.float64)
    freed_H = np.bincount(context_K, weights=discount_K, minlength=num_contexts)
    return Order(keys_K, counts_K - discount_K, total_H, freed_H / np.maximum(total_H, 1))


def _left_extensions(gram_T: Ids, longer_T: Ids, num_grams: int) -> Ids:
    """Return before how many different tokens each n-gram occurs: the number of (n+1)-grams that end with it."""
    _, where = np.unique(longer_T, return_index=True)
    is_gram = longer_T[where] != UNSEEN
    return np.bincount(gram_T[where[is_gram]], minlength=num_grams)


def _find(keys_K: Ids, context_T: Ids, ids_T: Ids, vocab_size: int) -> Ids:
    """Return the number of the n-gram at each token, or UNSEEN."""
    wanted_T = context_T * vocab_size + ids_T
    place_T = np.minimum(np.searchsorted(keys_K, wanted_T), len(keys_K) - 1)
    return np.where((context_T != UNSEEN) & (keys_K[place_T] == wanted_T), place_T, UNSEEN)


def _one_later(gram_T: Ids) -> Ids:
    """Return the n-gram that ends before each token: its context in the next higher order."""
    return np.concatenate(([UNSEEN], gram_T[:-1]))


def evaluate(model: NGrams, corpus: Corpus, split: str) -> dict[str, float]:
    """Return the metrics of a split, as a run has them."""
    nll = model.nll(np.asarray(corpus.open(split).ids, dtype=np.int64))
    return {
        f"{split}/loss_nats": float(nll.mean()),
        f"{split}/bits_per_byte": bits_per_byte(float(nll.sum()), num_bytes=corpus.splits[split].bytes),
        f"{split}/perplexity": perplexity(float(nll.mean())),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the metrics, and return them with what they are of."""
    parser = argparse.ArgumentParser(description="Kneser-Ney n-grams over the tokens of a config.")
    parser.add_argument("--order", type=int, default=5, help="tokens in the longest n-gram")
    options, overrides = parser.parse_known_args(arguments)
    if options.order < 1:
        parser.error("--order must be at least 1")
    config = compose("train", overrides)
    corpus = prepare(config.data, config.tokenizer)
    vocab_size = corpus.tokenizer.vocab_size
    model = fit(np.asarray(corpus.open("train").ids, dtype=np.int64), options.order, vocab_size)
    metrics: dict[str, float] = {}
    for split in ("val", "test"):
        if corpus.splits[split].tokens > 1:
            metrics |= evaluate(model, corpus, split)
    for name, value in metrics.items():
        print(f"{name:<20} {value:.4f}")
    result = {"order": options.order, "vocab_size": vocab_size, "train_tokens": corpus.splits["train"].tokens} | {
        "ngrams": [len(order.keys) for order in model.orders],
        "metrics": metrics,
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
