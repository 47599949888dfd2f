"""Labels: the loss by hand, what is measured as torchmetrics has it, and gradients that do not depend on batches."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as reference
from torch.nn import functional as F

from lmexp import compose, load_run, train
from lmexp.config.model import BERTConfig, EncoderConfig, LSTMConfig, TransformerConfig
from lmexp.config.schema import build
from lmexp.config.task import ClassifyConfig, Pooling
from lmexp.config.train import TrainConfig
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import evaluation_batches, training_batches
from lmexp.errors import ConfigError
from lmexp.metrics import CALIBRATION_BINS, calibration_error, macro_f1, per_class
from lmexp.models.adapters import build_model
from lmexp.models.classifier import LabelHead, label_scores
from lmexp.serving.labels import label
from lmexp.tasks.base import Task

MODELS: dict[str, Any] = {
    "lstm": LSTMConfig(num_layers=1, hidden_size=12),
    "transformer": TransformerConfig(num_layers=1, hidden_size=16, num_heads=2),
    "encoder": EncoderConfig(num_layers=1, hidden_size=16, num_heads=2),
    "bert": BERTConfig(num_layers=1, hidden_size=16, num_heads=2),
}
FRUITS = ("apple", "pear", "plum")


@pytest.fixture
def data(folder: Path) -> Path:
    random = np.random.default_rng(0)
    words = ["red", "green", "sweet", "sour", "big", "tiny"]
    rows = []
    for n in range(120):
        fruit = FRUITS[n % 7 % 3]
        around = " ".join(random.choice(words, random.integers(1, 8)))
        rows.append(f"{around} {fruit} {n}\tis {fruit}")
    (folder / "fruits.tsv").write_text("\n".join(rows))
    return folder / "fruits.tsv"


def config_of(data: Path, *more: str) -> TrainConfig:
    lines = ["data=labelled", f"data.path={data}", "task=classify", "tokenizer=bytes", "data.batch_size=8"]
    return compose("train", [*lines, "data.context_length=64", "logger=none", "trainer.progress_bar=false", *more])


def task_of(config: TrainConfig, model: str, **settings: Any) -> tuple[Task, Corpus]:
    task_config = replace(ClassifyConfig(dropout=0.0), **settings)
    config = replace(config, model=MODELS[model], task=task_config)
    corpus = prepare(config.data, config.tokenizer)
    torch.manual_seed(0)
    built = build_model(config, corpus.tokenizer, labels=corpus.labels).double()
    task: Task = build(config.task, train_config=config, model=built, corpus=corpus, max_steps=10)
    return task.double(), corpus


@pytest.mark.parametrize("pooling", Pooling)
def test_padding_changes_nothing(pooling: Pooling) -> None:
    torch.manual_seed(0)
    head = LabelHead(6, 3, pooling=pooling, dropout=0.5).eval()
    hidden = torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    scores = head.scores(hidden, mask)
    alone = head.scores(hidden[:1, :3], mask[:1, :3])
    torch.testing.assert_close(scores[:1], alone)
    expected = {
        Pooling.mean: hidden[0, :3].mean(0),
        Pooling.max: hidden[0, :3].max(0).values,
        Pooling.first: hidden[0, 0],
        Pooling.last: hidden[0, 2],
        Pooling.attention: hidden[0, :3].mean(0),  # the query begins at 0
    }[pooling]
    torch.testing.assert_close(head.pool(hidden, mask)[0], expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_text_is_labelled_alike_in_any_batch(data: Path, model: str) -> None:
    task, corpus = task_of(config_of(data), model)
    task.model.eval()
    batch = evaluation_batches(corpus.open("val"), task.config.data)[0]
    together = label_scores(task.model, batch["tokens_BT"], batch["mask_BT"])
    for row, mask in enumerate(batch["mask_BT"]):
        alone = label_scores(task.model, batch["tokens_BT"][row : row + 1, : mask.sum()], mask[None, : mask.sum()])
        torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("model", MODELS)
def test_the_gradient_of_a_step_is_that_of_the_mean_over_its_texts(data: Path, model: str, accumulate: int) -> None:
    task, corpus = task_of(config_of(data), model, label_smoothing=0.1, balanced=True)
    settings, file = replace(task.config.data, batch_size=7), corpus.open("train")

    def gradient(ranks: int) -> torch.Tensor:
        task.model.zero_grad()
        for rank in range(ranks):
            place: dict[str, int] = {"rank": rank, "world_size": ranks}
            batches = training_batches(file, settings, seed=1, accumulate=accumulate, **place)
            for k in range(12, 12 + accumulate):  # with the last, smaller batch of the epoch
                loss, count, _ = task.loss(batches[k], None)
                (loss / count / accumulate / ranks).backward()
        return torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])

    one, two = gradient(1), gradient(2)
    batches = training_batches(file, settings, seed=1, accumulate=accumulate)
    parts = [batches[k] for k in range(12, 12 + accumulate)]
    total = sum(task.loss(part, None)[0] for part in parts)
    task.model.zero_grad()
    (total / sum(len(part["labels_B"]) for part in parts)).backward()
    expected = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(two, expected, rtol=0, atol=1e-10)


def test_the_loss_is_that_of_torch_by_hand(data: Path) -> None:
    task, corpus = task_of(config_of(data), "lstm", class_weights=[1.0, 2.0, 0.5], label_smoothing=0.2)
    batch = training_batches(corpus.open("train"), task.config.data, seed=0, accumulate=1)[0]
    loss, count, _ = task.loss(batch, None)
    scores = label_scores(task.model, batch["tokens_BT"], batch["mask_BT"])
    weight = torch.tensor([1.0, 2.0, 0.5]).double()
    expected = sum(
        F.cross_entropy(one[None], target[None], weight=weight, label_smoothing=0.2, reduction="sum")
        for one, target in zip(scores, batch["labels_B"], strict=True)
    )
    torch.testing.assert_close(loss, expected)
    assert count == len(batch["labels_B"]) == 8


def test_balanced_weights_and_first_scores_are_those_of_the_labels(data: Path) -> None:
    task, corpus = task_of(config_of(data), "lstm", balanced=True)
    labels = corpus.open("train").labels
    assert labels is not None
    counts = np.bincount(labels)
    weights: Any = task.class_weights_K
    np.testing.assert_allclose(weights.numpy(), len(labels) / (3 * counts), rtol=1e-6)
    plain, _ = task_of(config_of(data), "lstm")
    plain.start_head_at_frequencies()
    shares = plain.model.head.bias.softmax(0)
    np.testing.assert_allclose(shares.detach().numpy(), (counts + 1) / (counts + 1).sum(), rtol=1e-6)
    with pytest.raises(ConfigError, match="has 2 weights, and there are 3 labels: is apple, is pear, is plum"):
        task_of(config_of(data), "lstm", class_weights=[1.0, 2.0])


def test_a_split_is_measured_as_torchmetrics_measures_it(data: Path) -> None:
    task, corpus = task_of(config_of(data), "encoder")
    batches = evaluation_batches(corpus.open("train"), task.config.data)
    task.model.eval()
    sums, count, scores, labels = torch.zeros(task.num_sums).double(), 0, [], []
    with torch.no_grad():
        for number in range(len(batches)):
            of_batch, counted, _ = task.evaluate(batches[number], None)
            sums, count = sums + of_batch, count + int(counted)
            scores.append(label_scores(task.model, batches[number]["tokens_BT"], batches[number]["mask_BT"]))
            labels.append(batches[number]["labels_B"])
    found = task.metrics_of("val", sums.tolist(), count)
    shares, target = torch.cat(scores).softmax(-1), torch.cat(labels)
    options: dict[str, Any] = {"num_classes": 3, "average": "macro"}
    expected = {
        "val/loss_nats": F.cross_entropy(torch.cat(scores), target),
        "val/accuracy": reference.multiclass_accuracy(shares, target, num_classes=3, average="micro"),
        "val/macro_f1": reference.multiclass_f1_score(shares, target, **options),
        "val/calibration_error": reference.multiclass_calibration_error(shares, target, 3, n_bins=CALIBRATION_BINS),
    }
    assert found == {key: pytest.approx(float(value), abs=1e-6) for key, value in expected.items()}
    files = task.files_of("val")
    content = json.loads(files["confusion-val.json"])
    confusion = reference.multiclass_confusion_matrix(shares, target, num_classes=3)
    assert content["confusion"] == confusion.tolist()
    assert files["confusion-val.svg"].count("<rect") == 1 + 9


def test_scores_of_labels_by_hand() -> None:
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    one, two, three = per_class(confusion)
    assert one == {"precision": 1.0, "recall": 0.75, "f1": pytest.approx(6 / 7), "support": 4}
    assert (two["precision"], two["recall"], three["f1"]) == (pytest.approx(2 / 3), 1.0, 0.0)
    assert macro_f1(confusion) == pytest.approx((6 / 7 + 0.8) / 3)
    assert calibration_error(np.array([2, 2]), np.array([0.8, 1.8]), np.array([1.0, 1.0])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "lines",
    [
        ["model=lstm_tiny", "model.hidden_size=32", "task.pooling=max"],
        ["model=encoder", "model.num_layers=1", "model.hidden_size=32", "task.pooling=attention"],
    ],
    ids=["lstm", "encoder"],
)
def test_fruits_are_learned_and_told(data: Path, lines: list[str]) -> None:
    options = ["optimizer=adamw", "optimizer.learning_rate=0.01", "trainer.max_steps=150", "task.dropout=0"]
    run = train(config_of(data, *lines, *options, "trainer.validate_every_steps=null"))
    assert run.record["metrics"]["test/accuracy"] == 1
    assert json.loads(run.labels.read_text()) == ["is apple", "is pear", "is plum"]
    assert (run.path / "confusion-test.svg").is_file()
    told = list(label(load_run(run.path), ["a sour plum 7", "red apple", "big green pear 7"], batch_size=2))
    assert [one["label"] for one in told] == ["is plum", "is apple", "is pear"]
    for one in told:
        shares: Any = one["probabilities"]
        assert sum(shares.values()) == pytest.approx(1)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_run_lends_its_weights_to_one_that_tells_labels(data: Path, text_file: Path) -> None:
    base = [
        *("data=text", f"data.path={text_file}", "tokenizer=bytes", "model=transformer_tiny", "model.hidden_size=16"),
        *("data.batch_size=4", "data.context_length=64", "trainer.max_steps=3", "logger=none", "callbacks=none"),
        *("trainer.progress_bar=false", "optimizer=adamw"),
    ]
    source = train(compose("train", base))
    lines = [f"init_from={source.path}", "data=labelled", f"data.path={data}", "task=classify", "data.batch_size=8"]
    options = ["data.context_length=64", "logger=none", "trainer.progress_bar=false", "trainer.max_steps=1"]
    run = train(compose("train", [*lines, *options, "optimizer=adamw", "optimizer.learning_rate=1e-9"]))
    ours, theirs = load_run(run.path).model.state_dict(), load_run(source.path).model.state_dict()
    assert torch.allclose(ours["embedding.weight"], theirs["embedding.weight"], atol=1e-6)
    assert ours["head.weight"].shape == (3, 16)
    again = [f"init_from={run.path}", *lines[1:], *options, "optimizer=adamw", "model.lora.rank=2"]
    adapted = train(compose("train", again))
    before, after = (copy.deepcopy(load_run(r.path).model.state_dict()) for r in (run, adapted))
    assert torch.equal(before["embedding.weight"], after["embedding.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])
