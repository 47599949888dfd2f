import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ngram
from benchmarks.ngram import FALLBACK_DISCOUNTS, discounts, fit
from lmexp import compose
from lmexp.data.batches import IGNORE, EvaluationBatches
from lmexp.data.corpus import prepare

VOCAB_SIZE = 12


def random_text(length: int, seed: int = 0) -> np.ndarray:
    """Tokens of which each depends on the two before it; token 11 never comes."""
    random = np.random.default_rng(seed)
    text = [0, 1]
    for _ in range(length - 2):
        text.append(int((text[-1] + 2 * text[-2] + random.geometric(0.5)) % 11))
    return np.array(text)


def probability(model: ngram.NGrams, context: list[int], token: int) -> float:
    return float(np.exp(-model.nll(np.array([*context, token]))[-1]))


class Slow:
    """Modified Kneser-Ney from dictionaries of tuples, one probability at a time."""

    def __init__(self, text: list[int], order: int) -> None:
        grams = {n: [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for n in range(1, order + 1)}
        self.counts: dict[int, Counter] = {order: Counter(grams[order])}
        for n in range(1, order):
            before = defaultdict(set)
            for gram in grams[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = Counter({gram: len(tokens) for gram, tokens in before.items()})
        self.discounts = {n: (0.0, *discounts(np.array(list(c.values())))) for n, c in self.counts.items()}

    def probability(self, context: tuple[int, ...], token: int, n: int) -> float:
        if n == 0:
            return 1 / VOCAB_SIZE
        lower = self.probability(context[1:], token, n - 1)
        follow = {gram[-1]: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        total = sum(follow.values())
        if not total:
            return lower
        taken = {word: self.discounts[n][min(count, 3)] for word, count in follow.items()}
        return (follow.get(token, 0) - taken.get(token, 0)) / total + sum(taken.values()) / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_over_the_vocabulary_sum_to_1(order: int) -> None:
    model, random = fit(random_text(600), order, VOCAB_SIZE), np.random.default_rng(1)
    for length in (1, 2, 3, 4, 6):
        for _ in range(10):
            context = random.integers(VOCAB_SIZE, size=length).tolist()
            assert sum(probability(model, context, token) for token in range(VOCAB_SIZE)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_model_equals_a_slow_one_made_of_dictionaries(order: int) -> None:
    text, unseen = random_text(400), random_text(60, seed=5)
    slow = Slow(text.tolist(), order)
    unseen[20] = 11
    expected = [
        -math.log(slow.probability(tuple(unseen[max(0, i - order + 1) : i].tolist()), unseen[i], min(order, i + 1)))
        for i in range(1, len(unseen))
    ]
    np.testing.assert_allclose(fit(text, order, VOCAB_SIZE).nll(unseen), expected, rtol=1e-10)


def test_a_bigram_model_by_hand() -> None:
    """Of "a b a b a c" and a vocabulary of 4: too few counts of counts, so 0.5 is taken from 1 and 1.0 from 2.

    Bigrams: ab 2, ba 2, ac 1. Different tokens before a: b; before b: a; before c: a; before d: none.
    """
    a, b, c, d = range(4)
    model = fit(np.array([a, b, a, b, a, c]), 2, 4)
    for_new = 1.5 / 3 / 4  # three continuations of 1 each give 0.5, shared evenly by 4 tokens
    alone = {a: 0.5 / 3 + for_new, b: 0.5 / 3 + for_new, c: 0.5 / 3 + for_new, d: for_new}
    after_a = {a: 0.0, b: 1.0 / 3, c: 0.5 / 3, d: 0.0}
    for token in range(4):
        assert probability(model, [a], token) == pytest.approx(after_a[token] + 1.5 / 3 * alone[token])
        assert probability(model, [c], token) == pytest.approx(alone[token])
    assert probability(model, [b], a) == pytest.approx((2 - 1) / 2 + 1 / 2 * alone[a])


def test_order_1_is_the_discounted_unigram_model() -> None:
    text = random_text(500)
    counts = np.bincount(text, minlength=VOCAB_SIZE)
    taken = np.array([0.0, *discounts(counts[counts > 0])])[np.minimum(counts, 3)]
    expected = (counts - taken) / 500 + taken.sum() / 500 / VOCAB_SIZE
    model = fit(text, 1, VOCAB_SIZE)
    assert [probability(model, [0], token) for token in range(VOCAB_SIZE)] == pytest.approx(expected.tolist())


def test_discounts_come_from_counts_of_counts() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 10, 3])
    y = 100 / (100 + 80)
    assert discounts(counts) == pytest.approx((1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 10 / 20))
    assert discounts(np.array([1, 1, 2])) == FALLBACK_DISCOUNTS


def test_a_text_shorter_than_the_order_is_enough() -> None:
    assert np.isfinite(fit(np.array([1, 2]), 5, VOCAB_SIZE).nll(random_text(9))).all()


def test_the_loss_nears_the_entropy_of_a_text_that_looks_back_two_tokens() -> None:
    text, unseen = random_text(40_000), random_text(10_000, seed=9)
    losses = [fit(text, order, VOCAB_SIZE).nll(unseen).mean() for order in (1, 2, 3)]
    entropy = 2 * math.log(2)  # of a geometric variable with p = 1/2; what wraps around at 11 is below 0.01
    assert losses[:2] == pytest.approx([math.log(11)] * 2, abs=0.02)
    assert losses[2] == pytest.approx(entropy, abs=0.03)


def test_the_benchmark_measures_the_tokens_and_bytes_of_a_run(
    text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data=text", f"data.path={text_file}", "tokenizer=characters", "logger=none"]
    result = ngram.main([*overrides, "--order", "3"])
    config = compose("train", overrides)
    corpus = prepare(config.data, config.tokenizer)
    for split in ("val", "test"):
        batches = EvaluationBatches(corpus.open(split), config.data)
        targets = sum(int((batches[k]["targets_BT"] != IGNORE).sum()) for k in range(len(batches)))
        loss, bits = result["metrics"][f"{split}/loss_nats"], result["metrics"][f"{split}/bits_per_byte"]
        assert bits == pytest.approx(loss * targets / math.log(2) / corpus.splits[split].bytes)
        assert 0.2 < loss < 1.5  # characters of a small grammar
    assert '"order": 3' in capsys.readouterr().out
