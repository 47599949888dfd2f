from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import masked_trigram
from benchmarks.masked_trigram import BothNeighbours, masked_positions
from lmexp import compose, train
from lmexp.config.schema import build
from lmexp.data.batches import EvaluationBatches
from lmexp.data.corpus import prepare
from lmexp.models.adapters import build_model
from tests.benchmarks.test_ngram import VOCAB_SIZE, random_text

MASKED = ["model=encoder", "model.num_layers=1", "model.hidden_size=8", "task=masked", "logger=none"]


def test_probabilities_of_what_stands_between_two_tokens_sum_to_1() -> None:
    text, unseen = random_text(2000), random_text(500, seed=1)
    model = BothNeighbours(text, VOCAB_SIZE)
    for tuned in (False, True):
        if tuned:
            model.tune(*model.components(unseen[:-2], unseen[1:-1], unseen[2:]))
        for left, right in ((0, 1), (3, 7), (11, 2), (11, 11)):
            every = np.arange(VOCAB_SIZE)
            parts = model.components(np.full(VOCAB_SIZE, left), every, np.full(VOCAB_SIZE, right))
            assert np.exp(-model.nll(*parts)).sum() == pytest.approx(1, abs=1e-9)


def test_the_trigram_and_the_product_by_hand() -> None:
    a, b, c = 0, 1, 2
    model = BothNeighbours(np.array([a, b, c, a, b, c, a, c, c]), 3)
    probability, bucket = model.components(np.array([a, a]), np.array([b, c]), np.array([c, c]))
    both, product = masked_trigram.COMPONENTS.index("both"), masked_trigram.COMPONENTS.index("product")
    assert probability[:, both] == pytest.approx([2 / 3, 1 / 3])  # a b c twice, a c c once
    assert bucket.tolist() == [3, 3]
    left, right = model.left(np.array([a]))[0], model.right(np.array([c]))[0]
    expected = left * right / model.unigram_V
    assert probability[:, product] == pytest.approx((expected / expected.sum())[[b, c]])


def test_tuned_weights_are_better_than_even_ones_and_both_sides_than_one() -> None:
    text, unseen = random_text(40_000), random_text(8_000, seed=9)
    model = BothNeighbours(text, VOCAB_SIZE)
    parts = model.components(unseen[:-2], unseen[1:-1], unseen[2:])
    even = model.nll(*parts).mean()
    model.tune(*parts)
    loss = model.nll(*parts).mean()
    assert loss < even
    left = -np.log(parts[0][:, masked_trigram.COMPONENTS.index("left")]).mean()
    assert loss < left


def test_the_positions_are_those_that_the_task_masks(text_file: Path) -> None:
    overrides = [*MASKED, "data=text", f"data.path={text_file}", "tokenizer=characters", "data.batch_size=7"]
    config = compose("train", overrides)
    corpus = prepare(config.data, config.tokenizer)
    model = build_model(config, corpus.tokenizer)
    task = build(config.task, train_config=config, model=model, corpus=corpus, max_steps=1)
    ids = np.asarray(corpus.open("val").ids)
    batches = EvaluationBatches(corpus.open("val"), config.data)
    masked = [batch["tokens_BT"][task.masking(batch)[1]] for batch in (batches[k] for k in range(len(batches)))]
    at = masked_positions(config, corpus, "val")
    assert np.array_equal(ids[at], torch.cat(masked).numpy())
    assert len(set(at.tolist())) == len(at)


@pytest.mark.slow
def test_the_benchmark_prints_its_figures_beside_those_of_a_run(
    folder: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["data.batch_size=4", "data.context_length=32", "trainer.max_steps=2", "trainer.progress_bar=false"]
    run = train(compose("train", [*MASKED, *shape, "data=text", f"data.path={text_file}", "tokenizer=characters"]))
    result = masked_trigram.main([str(run.path)])
    output = capsys.readouterr().out
    assert f"the run's own: {run.record['metrics']['val/perplexity']:.4f}" in output
    assert 0 < result["test/loss_nats"] < 1.5  # characters of a small grammar


def test_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(SystemExit, match="the task is not masked"):
        masked_trigram.main(["model=lstm"])
