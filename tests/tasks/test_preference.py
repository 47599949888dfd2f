"""DPO: its loss against a hand computation, its gradient however pairs are cut, its reference, and what it learns."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmexp import checkpoints, compose, load_run, train
from lmexp.config import TrainConfig
from lmexp.data.order import training_batches
from lmexp.errors import ConfigError, DataError, RunError, Stopped
from lmexp.evaluation.evaluate import evaluate
from lmexp.tasks.reference import Precomputed, log_likelihoods
from tests.tasks.test_sft import MODELS, new_task, require_equal, trained
from tests.training.setups import TINY, outcome, stop_at

PAIRS = 16


def write_pairs(path: Path, number: int = PAIRS, seed: int = 0) -> Path:
    """Write pairs that all take as much room; the shorter answer is the better one."""
    rng = random.Random(seed)
    lines = []
    for _ in range(number):
        length = rng.randint(1, 5)
        words = ["".join(rng.choices("abcdef", k=count)) for count in (4, length, 12 - length)]
        lines.append(json.dumps({"prompt": words[0], "chosen": words[1], "rejected": words[2]}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def config_of(folder: Path, *more: str) -> TrainConfig:
    path, val = write_pairs(folder / "train.jsonl"), write_pairs(folder / "val.jsonl", 8, seed=1)
    chosen = ["data=preferences", "task=preference", f"data.path={path}", f"data.val_path={val}"]
    rest = ["data.test_fraction=0", "data.template=plain", "tokenizer=bytes", "data.context_length=120"]
    return compose("train", [*chosen, *rest, *more])


def asked(task: Any, corpus: Any) -> None:
    """Let the reference be the model as it is, without a trainer."""
    reference = Precomputed()
    data = replace(task.config.data, batch_size=1, packing=False)
    batches = training_batches(corpus.open("train"), data, seed=0, accumulate=1)
    table = torch.zeros(PAIRS, 2, dtype=torch.float64)
    for number in range(PAIRS):
        with torch.no_grad():
            table[batches[number]["units_U"]] = log_likelihoods(task.model, batches[number])
    reference.state = {"train": table}
    task.reference = reference


def prepared(folder: Path, *more: str) -> tuple[Any, Any]:
    from lmexp.data.corpus import prepare

    config = config_of(folder, *more)
    corpus = prepare(config.data, config.tokenizer)
    task = new_task(config, corpus)
    asked(task, corpus)
    with torch.no_grad():
        for weight in trained(task.model):
            weight.add_(torch.randn_like(weight) * 0.05)
    return task, corpus


def gradients(task: Any, corpus: Any, *, rows: int, accumulate: int, packing: bool) -> tuple[list[Tensor], float]:
    task.model.zero_grad()
    data = replace(task.config.data, packing=packing, batch_size=rows)
    batches = training_batches(corpus.open("train"), data, seed=1, accumulate=accumulate)
    total = 0.0
    for micro_step in range(accumulate):
        loss_sum, count, _ = task.loss(batches[micro_step], None)
        loss = loss_sum / count / accumulate
        loss.backward()
        total += loss.item()
    return [weight.grad.clone() for weight in trained(task.model)], total


@pytest.mark.parametrize("name", ["lstm", "decoder", "adapters"])
def test_packing_and_accumulation_do_not_change_the_gradient(tmp_path: Path, name: str):
    task, corpus = prepared(tmp_path, *MODELS[name])
    expected = gradients(task, corpus, rows=PAIRS, accumulate=1, packing=False)
    require_equal(gradients(task, corpus, rows=4, accumulate=4, packing=False), expected)
    in_rows = training_batches(corpus.open("train"), task.config.data, seed=0, accumulate=1)
    num_rows = in_rows.rows_per_epoch  # type: ignore[attr-defined]
    assert num_rows == PAIRS / 2
    for accumulate in (1, 2, 8):
        require_equal(
            gradients(task, corpus, rows=num_rows // accumulate, accumulate=accumulate, packing=True), expected
        )


def test_the_loss_is_that_of_the_paper(tmp_path: Path):
    task, corpus = prepared(tmp_path, *MODELS["decoder"], "task.beta=0.3")
    tokenizer, file = corpus.tokenizer, corpus.open("train")
    starts = [*file.document_starts.tolist(), len(file.ids)]
    losses = []
    for pair in range(PAIRS):
        log_p = []
        for example in (2 * pair, 2 * pair + 1):
            ids = torch.from_numpy(file.ids[starts[example] : starts[example + 1]].astype("int64"))
            learned = torch.from_numpy(file.is_learned[starts[example] : starts[example + 1]].copy())
            assert tokenizer.decode(ids[learned].tolist()) in (tmp_path / "train.jsonl").read_text()
            hidden, _ = task.model(ids[None, :-1])
            each = task.model.head.logits(hidden)[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            log_p.append(each[learned[1:]].sum())
        ref = task.reference.state["train"][pair]
        losses.append(-F.logsigmoid(0.3 * ((log_p[0] - ref[0]) - (log_p[1] - ref[1]))))
    expected = torch.stack(losses).mean().item()
    _, found = gradients(task, corpus, rows=PAIRS, accumulate=1, packing=False)
    assert found == pytest.approx(expected, abs=1e-10)


SHAPE = [line for line in TINY if not line.startswith(("data=", "tokenizer=")) and "prompts" not in line]
PROMPTS = "callbacks.samples.prompts=[abcd]"


@pytest.mark.parametrize("more", [[], ["task.reference=live"], ["model.lora.rank=2", "task.reference=live"]])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(folder: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]):
    def config() -> TrainConfig:
        sizes = ["model=transformer_tiny", "optimizer=adamw", "data.batch_size=2", PROMPTS]
        return config_of(folder, *[line for line in SHAPE if "context_length" not in line], *sizes, *more)

    whole = train(config())
    expected = outcome(whole)
    whole.path.rename("whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        with pytest.raises(Stopped):
            train(config())
    assert outcome(train(config())) == expected


def test_a_live_reference_is_the_precomputed_one(folder: Path):
    quiet = ["model=transformer_tiny", "optimizer=adamw", "logger=none", "trainer.max_steps=6", PROMPTS]
    runs = [train(config_of(folder, *quiet, f"task.reference={how}")) for how in ("precomputed", "live")]
    one, other = ([row["val/loss_nats"] for row in run.metrics if "val/loss_nats" in row] for run in runs)
    assert one == pytest.approx(other, abs=1e-5)
    assert runs[0].record["metrics"]["val/loss_nats"] != pytest.approx(0.6931, abs=1e-3)


def test_before_the_first_step_nothing_is_preferred(folder: Path):
    base = ["model=transformer_tiny", "optimizer=adamw", "logger=none", "trainer.max_steps=2", PROMPTS]
    first = train(config_of(folder, *base))
    chosen = [line for line in base if not line.startswith("model=")]
    again = compose(
        "train",
        [
            *("data=preferences", "task=preference", "data.path=train.jsonl", "data.val_path=val.jsonl"),
            *("data.test_fraction=0", "data.template=plain", "data.context_length=120"),
            *(f"init_from={first.path}", *chosen),
        ],
    )
    run = train(again)
    (before,) = [row for row in run.metrics if row["step"] == 0]
    assert before["val/loss_nats"] == pytest.approx(0.693147, abs=1e-6)
    assert before["val/accuracy"] == 0
    assert before["val/margin_nats"] == 0


def test_a_planted_preference_is_learned(folder: Path):
    more = ["model=transformer_tiny", "optimizer=adamw", "optimizer.learning_rate=0.003", "logger=none", PROMPTS]
    write_pairs(folder / "many.jsonl", 300, seed=2)
    more += ["data.path=many.jsonl", "trainer.max_steps=60", "trainer.validate_every_steps=null"]
    run = train(config_of(folder, *more))
    assert run.record["metrics"]["val/accuracy"] >= 0.9
    assert checkpoints.read_weights(checkpoints.listing(run.checkpoints)[-1])
    assert load_run(run.path).step == 60
    with pytest.raises(RunError, match="is measured against what its model was as it began, in training only"):
        evaluate(str(run.path))


BAD = {
    '{"prompt": "a", "chosen": "b", "rejected": "b"}': "chosen and rejected are the same",
    '{"chosen": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],'
    ' "rejected": [{"role": "user", "content": "z"}, {"role": "assistant", "content": "w"}]}': "different questions",
    '{"prompt": "a", "chosen": "b"}': "is of no known format (it has prompt, chosen); known are prompt, chosen and",
    '{"prompt": "a", "chosen": "b", "rejected": ""}': "an answer, is empty",
    '{"chosen": [{"role": "user", "content": "x"}], "rejected": "b"}': "chosen does not end with an answer",
}


@pytest.mark.parametrize("row", BAD)
def test_a_row_that_is_no_pair_says_why(folder: Path, row: str):
    (folder / "bad.jsonl").write_text(row)
    with pytest.raises(DataError) as error:
        train(config_of(folder, "data.path=bad.jsonl", "logger=none"))
    assert "bad.jsonl: line 1" in str(error.value)
    assert BAD[row] in str(error.value)


def test_preferences_and_answers_are_not_mixed_up(folder: Path):
    with pytest.raises(ConfigError, match="data=preferences holds preferences, which sft does not learn: task=prefer"):
        config_of(folder, "task=sft")
