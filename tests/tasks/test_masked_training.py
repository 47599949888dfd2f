"""What is learned from masked tokens: the loss, its gradients, and a run from end to end."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp import compose, load_run, train
from lmexp.config.schema import build
from lmexp.data.batches import EvaluationBatches
from lmexp.data.corpus import prepare
from lmexp.data.order import training_batches
from lmexp.errors import ConfigError, DataError
from lmexp.models.adapters import build_model
from lmexp.runs.summary import summary
from lmexp.tasks.base import seed_everything
from lmexp.tasks.masked import Masked, draw_key, segments
from tests.training.setups import tiny

pytestmark = pytest.mark.usefixtures("folder")
EVERY_ENCODER = pytest.mark.parametrize("model", ["encoder", "bert"])


def new_task(text_file: Path, *more: str) -> Masked:
    """Return a task with a small model as training would start from it, without dropout."""
    config = tiny(text_file, "task=masked", "model.num_layers=2", "model.dropout=0", *more)
    corpus = prepare(config.data, config.tokenizer)
    seed_everything(1)
    model = build_model(config, corpus.tokenizer)
    return build(config.task, train_config=config, model=model, corpus=corpus, max_steps=10)


def training_batch(task: Masked, micro_step: int = 0) -> dict[str, Any]:
    file = task.corpus.open("train")
    return training_batches(file, task.config.data, seed=0, accumulate=1)[micro_step]


@EVERY_ENCODER
def test_the_loss_is_the_mean_over_masked_tokens_by_hand(model: str, text_file: Path) -> None:
    task = new_task(text_file, f"model={model}")
    batch = training_batch(task, 5)
    loss_sum, count, _ = task.loss(batch, None)
    read_BT, is_target_BT = task.masking(batch, draw_key(0, 5))
    logits_BTV = task.model.head.logits(task.model(read_BT)[0])
    by_hand = []
    for row, column in is_target_BT.nonzero().tolist():
        scores = logits_BTV[row, column].double()
        by_hand.append(-math.log(scores.softmax(-1)[batch["tokens_BT"][row, column]].item()))
    assert count == len(by_hand) > 3
    assert loss_sum.item() == pytest.approx(sum(by_hand), rel=1e-5)


@EVERY_ENCODER
def test_gradients_come_through_masked_positions_only(model: str, text_file: Path) -> None:
    task = new_task(text_file, f"model={model}")
    batch, hidden = training_batch(task), []
    task.model.register_forward_hook(lambda module, inputs, output: output[0].retain_grad() or hidden.append(output[0]))
    task.loss(batch, None)[0].backward()
    _, is_target_BT = task.masking(batch, draw_key(0, 0))
    reached_BT = hidden[0].grad.abs().amax(dim=2) > 0
    assert torch.equal(reached_BT, is_target_BT)


@EVERY_ENCODER
def test_only_masked_positions_reach_the_head(model: str, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = new_task(text_file, f"model={model}")
    head, rows = task.model.head, []
    features = head.features
    monkeypatch.setattr(head, "features", lambda hidden: rows.append(hidden.shape[:-1].numel()) or features(hidden))
    batch = training_batch(task)
    count = task.loss(batch, None)[1]
    assert rows == [count]
    in_head = sum(weight.numel() for weight in head.parameters() if weight.ndim == 2)
    whole = task.model.flops_per_token(16)
    assert task.flops_per_token == pytest.approx(whole - 6 * 0.85 * in_head)


@EVERY_ENCODER
def test_a_batch_in_which_nothing_is_masked_costs_nothing_and_breaks_nothing(model: str, text_file: Path) -> None:
    task = new_task(text_file, f"model={model}", "task.masked_fraction=1e-9")
    loss_sum, count, _ = task.loss(training_batch(task), None)
    loss = loss_sum / count
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is None or (weight.grad == 0).all() for weight in task.model.parameters())


def test_the_loss_of_a_split_does_not_depend_on_the_batch_size(text_file: Path) -> None:
    task = new_task(text_file, "model=encoder")
    sums = []
    for rows in (3, 50):
        data = compose(
            "train", ["data=text", f"data.path={text_file}", "data.context_length=16", f"data.batch_size={rows}"]
        ).data
        batches = EvaluationBatches(task.corpus.open("val"), data)
        with torch.no_grad():
            parts = [task.evaluate(batches[k], None)[:2] for k in range(len(batches))]
        sums.append([sum(part[i].item() for part in parts) for i in (0, 1)])
    assert sums[0][1] == sums[1][1] > 300
    assert sums[0][0] == pytest.approx(sums[1][0], rel=1e-6)


def test_what_lies_beyond_the_end_of_the_text_is_not_read(text_file: Path) -> None:
    task = new_task(text_file, "model=bert")
    file, data = task.corpus.open("val"), task.config.data
    last = EvaluationBatches(file, data)[len(EvaluationBatches(file, data)) - 1]
    row = {key: value[-1:] for key, value in last.items()}
    inside = int((row["targets_BT"] >= 0).sum())
    assert 0 < inside < data.context_length, "another length of text is needed here"
    alone = {key: value[:, :inside] if value.ndim == 2 else value for key, value in row.items()}
    assert segments(alone) is None
    for beyond in (0, 7):
        row["tokens_BT"][:, inside:] = beyond
        assert task.evaluate(row, None)[0].item() == pytest.approx(task.evaluate(alone, None)[0].item(), rel=1e-5)


@EVERY_ENCODER
def test_a_masked_run_goes_from_end_to_end(model: str, folder: Path, text_file: Path) -> None:
    config = tiny(text_file, f"model={model}", "task=masked", "callbacks=ema", "callbacks.ema_decay=0.9")
    run = train(config)
    metrics = run.record["metrics"]
    assert {name for name in metrics if not name.startswith("train/")} == {
        *("val/loss_nats", "val/perplexity", "test/loss_nats", "test/perplexity", "best/val/loss_nats")
    }
    assert metrics["val/perplexity"] == pytest.approx(math.exp(metrics["val/loss_nats"]))
    assert run.samples == []
    assert "bits per byte" not in summary(run)
    assert f"lmexp evaluate {run.path.name}" in summary(run)
    loaded = load_run(run.path, "best")
    assert len(loaded.model.head.weight) == loaded.tokenizer.vocab_size + 1


@EVERY_ENCODER
def test_an_encoder_learns_one_batch_by_heart(model: str, text_file: Path) -> None:
    task = new_task(text_file, f"model={model}", "model.hidden_size=64")
    batch, optimizer = training_batch(task), torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    for _ in range(60):
        loss_sum, count, _ = task.loss(batch, None)
        (loss_sum / count).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (loss_sum / count).item() < 0.05


@pytest.mark.slow
def test_an_encoder_learns_the_grammar(folder: Path, text_file: Path) -> None:
    more = ["trainer.max_steps=200", "model.dropout=0", "model.hidden_size=64", "trainer.validate_every_steps=null"]
    run = train(tiny(text_file, "model=encoder", "model.num_layers=2", "task=masked", *more, "data.context_length=32"))
    assert run.record["metrics"]["val/loss_nats"] < 1.2  # the frequencies of the letters alone give 2.8


@EVERY_ENCODER
def test_documents_are_kept_apart_when_asked(model: str, text_file: Path) -> None:
    task = new_task(text_file, f"model={model}", "data.segments=true", "data.documents=line")
    batch = training_batch(task)
    border = (batch["segments_BT"] != batch["segments_BT"][:, :1]).int().argmax(dim=1)
    row = int(border.argmax())
    assert border[row] > 0
    changed = {key: value.clone() if torch.is_tensor(value) else value for key, value in batch.items()}
    changed["tokens_BT"][row, border[row] :] = 1
    hidden = [task.model(b["tokens_BT"], None, b["segments_BT"])[0][row, : border[row]] for b in (batch, changed)]
    assert torch.equal(*hidden)


def test_a_split_in_which_nothing_is_masked_is_refused_by_name(text_file: Path) -> None:
    task = new_task(text_file, "model=encoder")
    with pytest.raises(DataError, match=r"no token of the val split is masked; give it more text"):
        task.metrics_of("val", 0.0, 0)


def test_a_decoder_cannot_fill_in_and_an_encoder_cannot_continue(text_file: Path) -> None:
    with pytest.raises(ConfigError, match="masked is for models of kind encoder; transformer is of kind decoder"):
        tiny(text_file, "model=transformer", "task=masked")
    with pytest.raises(ConfigError, match="pretrain is for models of kind decoder; bert is of kind encoder"):
        tiny(text_file, "model=bert")
