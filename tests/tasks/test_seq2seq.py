"""One text from another: the loss by hand, gradients that do not depend on batches, and a task that is learned."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lmexp import compose, load_run, train
from lmexp.config.model import EncoderDecoderConfig, LSTMAttentionConfig
from lmexp.config.schema import build
from lmexp.config.task import Seq2SeqConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import IGNORE
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import training_batches
from lmexp.errors import RunError
from lmexp.evaluation.evaluate import evaluate
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.interchange.exporting import export
from lmexp.models.adapters import build_model
from lmexp.models.heads import Head
from lmexp.tasks.base import Task

MODELS: dict[str, Any] = {
    "encoder_decoder": EncoderDecoderConfig(num_layers=1, hidden_size=16, num_heads=2),
    "lstm_attention": LSTMAttentionConfig(num_layers=1, hidden_size=12),
}


@pytest.fixture
def data(folder: Path) -> Path:
    words, draw = ["one", "two", "three", "four", "five"], random.Random(0)
    rows = []
    for n in range(500):
        chosen = [draw.choice(words) for _ in range(1 + n % 4)]
        rows.append(f"{' '.join(chosen)}\t{''.join(str(words.index(word) + 1) for word in chosen)}")
    (folder / "digits.tsv").write_text("\n".join(rows))
    return folder / "digits.tsv"


def config_of(data: Path, *more: str) -> TrainConfig:
    lines = ["data=pairs", f"data.path={data}", "task=seq2seq", "tokenizer=characters", "model=encoder_decoder"]
    return compose("train", [*lines, "data.context_length=32", "logger=none", "trainer.progress_bar=false", *more])


def task_of(config: TrainConfig, model: str, **settings: Any) -> tuple[Task, Corpus]:
    config = replace(config, model=MODELS[model], task=replace(Seq2SeqConfig(), **settings))
    corpus = prepare(config.data, config.tokenizer)
    torch.manual_seed(0)
    built = build_model(config, corpus.tokenizer).double()
    task: Task = build(config.task, train_config=config, model=built, corpus=corpus, max_steps=10)
    return task.double(), corpus


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_that_of_each_pair_by_itself(data: Path, model: str) -> None:
    task, corpus = task_of(config_of(data, "data.batch_tokens=256"), model, label_smoothing=0.1)
    batch = training_batches(corpus.open("train"), task.config.data, seed=0, accumulate=1)[2]
    loss, count, _ = task.loss(batch, None)
    expected = torch.zeros(()).double()
    rows = (batch[key] for key in ("source_BS", "source_mask_BS", "tokens_BT", "targets_BT"))
    for source, mask, tokens, targets in zip(*rows, strict=True):
        real = targets != IGNORE
        state = task.model.encode(source[mask][None])
        hidden, _ = task.model(tokens[real][None], state)
        logits = task.model.head.logits(hidden)[0]
        expected += F.cross_entropy(logits, targets[real], label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    assert count == (batch["targets_BT"] != IGNORE).sum()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_the_gradient_of_a_step_is_that_of_the_mean_over_its_target_tokens(
    data: Path, model: str, accumulate: int
) -> None:
    task, corpus = task_of(config_of(data, "data.batch_tokens=128"), model, label_smoothing=0.1)
    file = corpus.open("train")

    def gradient(ranks: int) -> torch.Tensor:
        task.model.zero_grad()
        for rank in range(ranks):
            place: dict[str, int] = {"rank": rank, "world_size": ranks}
            batches = training_batches(file, task.config.data, seed=1, accumulate=accumulate, **place)
            for k in range(4, 4 + accumulate):
                loss, count, _ = task.loss(batches[k], None)
                (loss / count / accumulate / ranks).backward()
        return torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])

    one, two = gradient(1), gradient(2)
    task.model.zero_grad()
    batches = training_batches(file, task.config.data, seed=1, accumulate=accumulate)
    parts = [batches[k] for k in range(4, 4 + accumulate)]
    total = sum(task.loss(part, None)[0] for part in parts)
    (total / sum(int((part["targets_BT"] != IGNORE).sum()) for part in parts)).backward()
    expected = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(two, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["dense", "chunked"])
def test_smoothed_losses_and_their_gradients_are_those_of_torch(loss: str, bias: bool) -> None:
    from lmexp.config.model import Loss

    torch.manual_seed(0)
    head = Head(8, 30, bias=bias, loss=Loss[loss]).double()
    torch.nn.init.normal_(head.weight)
    hidden = torch.randn(300, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(30, (300,))
    targets[::7] = IGNORE
    head.smoothed_nll_sum(hidden, targets, 0.2).backward()
    found = [hidden.grad, *(p.grad for p in head.parameters())]
    hidden.grad = None
    again = [p.detach().requires_grad_(True) for p in head.parameters()]
    logits = F.linear(hidden, again[0], again[1] if bias else None)
    expected = F.cross_entropy(logits, targets, ignore_index=IGNORE, label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(head.smoothed_nll_sum(hidden.detach(), targets, 0.2), expected)
    expected.backward()
    for one, other in zip(found, [hidden.grad, *(p.grad for p in again)], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "lines",
    [
        ["model.num_layers=1", "model.hidden_size=64"],
        ["model=lstm_attention", "model.num_layers=1", "model.hidden_size=64"],
    ],
    ids=MODELS,
)
def test_digits_are_written_from_words(data: Path, lines: list[str]) -> None:
    options = ["optimizer=muon", "trainer.max_steps=300", "data.batch_tokens=512", "task.label_smoothing=0"]
    task = ["task.metrics=[exact_match,bleu,chrf,rouge]", "task.num_beams=3", "task.bleu_tokenizer=char"]
    run = train(config_of(data, *lines, *options, *task, "trainer.validate_every_steps=null"))
    metrics = run.record["metrics"]
    assert metrics["test/exact_match"] > 0.9
    assert (metrics["test/bleu"] > 80, metrics["test/chrf"] > 80, metrics["test/rougeL"] > 0.9) == (True, True, True)
    loaded = load_run(run.path)
    sampling = Sampling(max_tokens=10, temperature=0)
    form = form_of(loaded.config, loaded.tokenizer)
    written = complete(loaded.model, form, ["one two", "five", "two four three"], sampling)
    assert [one.text for one in written] == ["12", "5", "243"]


@pytest.mark.parametrize("model", ["encoder_decoder", "lstm_attention"])
def test_sources_and_targets_can_have_tokenizers_of_their_own(data: Path, model: str) -> None:
    options = ["data.separate_tokenizers=true", "optimizer=muon", "trainer.max_steps=300", "data.batch_tokens=512"]
    sizes = [f"model={model}", "model.num_layers=1", "model.hidden_size=64", "task.metrics=[exact_match]"]
    run = train(config_of(data, *options, *sizes, "task.label_smoothing=0", "trainer.validate_every_steps=null"))
    loaded = load_run(run.path)
    assert loaded.tokenizer.source is not None
    assert loaded.tokenizer.vocab_size == 5 + 256 + 1
    assert loaded.tokenizer.source.vocab_size == len(set("one two three four five")) + 256 + 1
    assert run.record["metrics"]["test/exact_match"] > 0.9
    found = evaluate(str(run.path))["metrics"]
    assert found["test/exact_match"] == run.record["metrics"]["test/exact_match"]
    assert found["test/loss_nats"] == pytest.approx(run.record["metrics"]["test/loss_nats"], abs=1e-5)
    form = form_of(loaded.config, loaded.tokenizer)
    (written,) = complete(loaded.model, form, ["two four three"], Sampling(max_tokens=10, temperature=0))
    assert written.text == "243"
    with pytest.raises(RunError, match="a tokenizer for sources and one for targets"):
        export(run.path, "exported", to="safetensors")


def test_a_reference_is_the_text_of_the_file_and_not_what_the_tokenizer_makes_of_it(folder: Path) -> None:
    rows = [{"source": f"a b {n % 5}", "target": f"known word{n}"} for n in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = config_of(folder / "rows.jsonl", "tokenizer=words", "tokenizer.vocab_size=6")
    config = replace(config, task=Seq2SeqConfig())
    corpus = prepare(config.data, config.tokenizer)
    model = build_model(config, corpus.tokenizer)
    task: Any = build(config.task, train_config=config, model=model, corpus=corpus, max_steps=10)
    questions = task.questions("train")
    assert len(questions) == corpus.splits["train"].documents // 2
    assert all(question.answer.startswith("known word") for question in questions)
    assert task.questions("val", 1)[0].answer in {row["target"] for row in rows}
