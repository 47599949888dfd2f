"""A trigram that sees both neighbours of a masked token: the baseline that a masked language model has to beat.

    python -m benchmarks.masked_trigram RUN        or        task=masked model=encoder [data=text data.path=FILE ...]

Predicts exactly the tokens of val and test that the task masks, each from the true tokens on its left and right, which
a model sees only where they are not masked too. Interpolates, with weights tuned on val for each count of the pair
(Jelinek and Mercer 1980): the token between the same two neighbours; the Kneser-Ney bigrams from the left and from the
right; their product p(w|l) p(w|r) / p(w), made to sum to 1; the frequency of the token; even odds.
Shapes: T tokens, N masked tokens, V vocabulary, K components.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.ngram import discounts
from lmexp import compose
from lmexp.config.task import MaskedConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import EvaluationBatches
from lmexp.data.corpus import Corpus, prepare
from lmexp.metrics import perplexity
from lmexp.runs import find_run
from lmexp.tasks.masked import Masking

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

COMPONENTS = ("both", "product", "left", "right", "unigram", "even")
BUCKETS = np.array([1, 2, 3, 5, 9, 17, 65, 257])
"""Counts of a pair of neighbours from which on it has weights of its own."""
CHUNK, EM_STEPS = 256, 50


class Bigrams:
    """p(w | c) for every token w, by interpolated Kneser-Ney.

    Formula: max(c(cw) - D, 0) / c(c) + backoff(c) * p(w), where p(w) goes by how many tokens w occurs after.
    Source: Chen and Goodman 1999, section 3.
    """

    def __init__(self, context_T: Ids, token_T: Ids, vocab_size: int) -> None:
        keys, counts = np.unique(context_T * vocab_size + token_T, return_counts=True)
        contexts, tokens = keys // vocab_size, keys % vocab_size
        taken = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3)]
        total_V = np.maximum(np.bincount(contexts, weights=counts, minlength=vocab_size), 1)
        own = (counts - taken) / total_V[contexts]
        self.own_VV = csr_array((own, (contexts, tokens)), shape=(vocab_size, vocab_size))
        freed_V = np.bincount(contexts, weights=taken, minlength=vocab_size) / total_V
        self.backoff_V = np.where(np.bincount(contexts, minlength=vocab_size) > 0, freed_V, 1.0)
        after_V = np.bincount(tokens, minlength=vocab_size) + 0.5  # a token that never occurs has some chance too
        self.lower_V = after_V / after_V.sum()

    def __call__(self, context_N: Ids) -> Floats:
        """Return the probabilities of all tokens after each context.

        Shape: (N) -> (N, V).
        """
        return self.own_VV[context_N].toarray() + self.backoff_V[context_N, None] * self.lower_V


class BothNeighbours:
    """The components of the model; `tune` finds how much each of them counts."""

    def __init__(self, ids_T: Ids, vocab_size: int) -> None:
        left_T, token_T, right_T = ids_T[:-2], ids_T[1:-1], ids_T[2:]
        self.vocab_size = vocab_size
        self.left = Bigrams(ids_T[:-1], ids_T[1:], vocab_size)
        self.right = Bigrams(ids_T[1:], ids_T[:-1], vocab_size)
        unigram_V = np.bincount(ids_T, minlength=vocab_size) + 0.5
        self.unigram_V = unigram_V / unigram_V.sum()
        self.pairs, pair_T, self.pair_counts = np.unique(
            left_T * vocab_size + right_T, return_inverse=True, return_counts=True
        )
        self.triples, self.triple_counts = np.unique(pair_T * vocab_size + token_T, return_counts=True)
        self.weights = np.full((len(BUCKETS) + 1, len(COMPONENTS)), 1 / len(COMPONENTS))
        self.weights[0] = [0.0] + [1 / (len(COMPONENTS) - 1)] * (len(COMPONENTS) - 1)  # a pair that was never seen

    def components(self, left_N: Ids, token_N: Ids, right_N: Ids) -> tuple[Floats, Ids]:
        """Return (what each component gives the token, the bucket of its neighbours).

        Shape: (N) -> (N, K), (N).
        """
        pair_N, count_N = _look_up(self.pairs, self.pair_counts, left_N * self.vocab_size + right_N)
        _, triple_N = _look_up(self.triples, self.triple_counts, pair_N * self.vocab_size + token_N)
        both_N = np.where(count_N > 0, triple_N / np.maximum(count_N, 1), 0.0)
        parts = []
        for chunk in np.array_split(np.arange(len(token_N)), -(-len(token_N) // CHUNK)):
            left_NV, right_NV, rows = self.left(left_N[chunk]), self.right(right_N[chunk]), np.arange(len(chunk))
            product_NV = left_NV * right_NV / self.unigram_V
            token = token_N[chunk]
            product_N = product_NV[rows, token] / product_NV.sum(1)
            parts.append(np.stack((product_N, left_NV[rows, token], right_NV[rows, token]), axis=1))
        even_N = np.full(len(token_N), 1 / self.vocab_size)
        columns = [both_N[:, None], np.concatenate(parts), self.unigram_V[token_N, None], even_N[:, None]]
        return np.concatenate(columns, axis=1), np.searchsorted(BUCKETS, count_N, side="right")

    def tune(self, probability_NK: Floats, bucket_N: Ids) -> None:
        """Set the weights of each bucket to those under which these tokens are likeliest (expectation-maximisation)."""
        for bucket in range(len(self.weights)):
            mine_NK = probability_NK[bucket_N == bucket]
            for _ in range(EM_STEPS if len(mine_NK) else 0):
                share_NK = mine_NK * self.weights[bucket]
                share_NK /= share_NK.sum(1, keepdims=True)
                self.weights[bucket] = share_NK.mean(0)

    def nll(self, probability_NK: Floats, bucket_N: Ids) -> Floats:
        """Return the negative log-likelihood of each token.

        Shape: (N, K), (N) -> (N). Unit: nats.
        """
        return -np.log((probability_NK * self.weights[bucket_N]).sum(1))


def _look_up(keys: Ids, counts: Ids, wanted_N: Ids) -> tuple[Ids, Ids]:
    """Return (number of each key, its count); -1 and 0 for a key that is not there."""
    place_N = np.minimum(np.searchsorted(keys, wanted_N), len(keys) - 1)
    is_there_N = keys[place_N] == wanted_N
    return np.where(is_there_N, place_N, -1), np.where(is_there_N, counts[place_N], 0)


def masked_positions(config: TrainConfig, corpus: Corpus, split: str) -> Ids:
    """Return where in a split the tokens stand that the task masks there.

    Shape: (N).
    """
    assert isinstance(config.task, MaskedConfig)
    masking = Masking(config.task, corpus.tokenizer)
    batches = EvaluationBatches(corpus.open(split), config.data)
    found = []
    for batch in (batches[k] for k in range(len(batches))):
        _, is_target_BT = masking(batch)
        position_BT = batch["starts_B"][:, None] + torch.arange(is_target_BT.shape[1])
        found.append(position_BT[is_target_BT].numpy())
    return np.sort(np.concatenate(found))


def evaluate(config: TrainConfig, corpus: Corpus) -> dict[str, Any]:
    """Return the losses of the baseline on both splits, as a run has them."""
    model = BothNeighbours(np.asarray(corpus.open("train").ids, dtype=np.int64), corpus.tokenizer.vocab_size)
    result: dict[str, Any] = {}
    for split in ("val", "test"):
        ids_T = np.pad(np.asarray(corpus.open(split).ids, dtype=np.int64), 1, mode="edge")
        at_N = masked_positions(config, corpus, split) + 1
        components = model.components(ids_T[at_N - 1], ids_T[at_N], ids_T[at_N + 1])
        if split == "val":
            model.tune(*components)
        loss = float(model.nll(*components).mean())
        result |= {f"{split}/masked": len(at_N), f"{split}/loss_nats": loss, f"{split}/perplexity": perplexity(loss)}
    return result


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the baseline's perplexities, beside those of the run, and return them."""
    parser = argparse.ArgumentParser(description="A trigram that sees both neighbours of each masked token.")
    parser.add_argument("what", nargs="+", help="a run, or overrides as `lmexp train` takes them")
    what = parser.parse_args(arguments).what
    run = find_run(what[0]) if "=" not in what[0] else None
    config = run.config if run else compose("train", what)
    if not isinstance(config.task, MaskedConfig):
        sys.exit("the task is not masked: give a run of task=masked, or task=masked model=encoder")
    result = evaluate(config, prepare(config.data, config.tokenizer))
    metrics = run.record.get("metrics", {}) if run else {}
    for key, value in result.items():
        own = f"   the run's own: {metrics[key]:.4f}" if key in metrics else ""
        print(f"{key:<16} {value:.4f}{own}" if isinstance(value, float) else f"{key:<16} {value}")
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
