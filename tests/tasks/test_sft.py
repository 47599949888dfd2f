"""The gradient of a step of fine-tuning does not depend on how its conversations are cut into rows, micro-steps and
ranks, and only answers are learned.
"""

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from lmexp import compose
from lmexp.config import TrainConfig
from lmexp.config.schema import build
from lmexp.data.batches import IGNORE
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import evaluation_batches, training_batches
from lmexp.models.adapters import build_model
from lmexp.models.state import LanguageModel
from lmexp.tasks.base import Task

ROWS, ROOM, IN_ROW = 8, 66, 3
LENGTH = ROOM // IN_ROW + 1
"""Tokens of a conversation, so that three fill a row."""
FRAME = len("User: \nAssistant: \n") + 1
MODELS = {
    "lstm": ["model=lstm", "model.num_layers=2", "model.hidden_size=12", "model.dropout=0"],
    "decoder": ["model=transformer_tiny", "model.hidden_size=16", "model.num_layers=2", "model.num_heads=2"],
    "gpt2": ["model=gpt2", "model.hidden_size=16", "model.num_layers=2", "model.num_heads=2", "model.dropout=0"],
    "fast": ["model=transformer_fast", "model.hidden_size=16", "model.num_layers=2", "model.num_heads=2"],
    "adapters": [
        *("model=transformer_tiny", "model.hidden_size=16", "model.num_layers=2", "model.num_heads=2"),
        "model.lora.rank=2",
    ],
}


def write_conversations(path: Path, number: int = IN_ROW * ROWS) -> Path:
    """Write conversations that all have as many tokens, of which fewer or more are learned."""
    rng = random.Random(0)
    letters = "abcdefgh"
    lines = []
    for _ in range(number):
        total = LENGTH - FRAME
        asked = rng.randint(1, total - 1)
        texts = ["".join(rng.choices(letters, k=count)) for count in (asked, total - asked)]
        lines.append(json.dumps({"prompt": texts[0], "completion": texts[1]}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def config_of(folder: Path, *more: str) -> TrainConfig:
    path = write_conversations(folder / "train.jsonl")
    val = write_conversations(folder / "val.jsonl", 8)
    chat = ["data=chat", "task=sft", f"data.path={path}", f"data.val_path={val}", "data.test_fraction=0"]
    return compose("train", [*chat, "data.template=plain", "tokenizer=bytes", f"data.context_length={ROOM}", *more])


def new_task(config: TrainConfig, corpus: Corpus) -> Task:
    torch.manual_seed(0)
    model = build_model(config, corpus.tokenizer).double()
    with torch.no_grad():
        for weight in model.parameters():  # adapters would begin at 0, and half of their gradients be 0
            weight.copy_(torch.randn_like(weight) * 0.1)
    task: Task = build(config.task, train_config=config, model=model, corpus=corpus, max_steps=1)
    return task


def gradients(
    task: Task, corpus: Corpus, *, accumulate: int, packing: bool, world_size: int = 1
) -> tuple[list[Tensor], float]:
    """Return the gradients and the loss of one step over all conversations, averaged over ranks as DDP does."""
    task.model.zero_grad()
    rows = (ROWS if packing else ROWS * IN_ROW) // accumulate
    data = replace(task.config.data, packing=packing, batch_size=rows)
    total = 0.0
    for rank in range(world_size):
        place = {"rank": rank, "world_size": world_size}
        batches = training_batches(corpus.open("train"), data, seed=1, accumulate=accumulate, **place)
        for micro_step in range(accumulate):
            loss_sum, num_targets, _ = task.loss(batches[micro_step], None)
            loss = loss_sum / num_targets / accumulate / world_size
            loss.backward()
            total += loss.item()
    return [weight.grad.clone() for weight in trained(task.model)], total


def trained(model: LanguageModel) -> list[Any]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def require_equal(found: tuple[list[Tensor], float], expected: tuple[list[Tensor], float]) -> None:
    assert found[1] == pytest.approx(expected[1], abs=1e-10)
    for one, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    assert max(grad.abs().max().item() for grad in expected[0]) > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_packing_accumulation_and_ranks_do_not_change_the_gradient(tmp_path: Path, name: str):
    config = config_of(tmp_path, *MODELS[name])
    corpus = prepare(config.data, config.tokenizer)
    task = new_task(config, corpus)
    expected = gradients(task, corpus, accumulate=1, packing=False)
    for packing in (True, False):
        for accumulate in (1, 2, 4, 8):
            require_equal(gradients(task, corpus, accumulate=accumulate, packing=packing), expected)
        require_equal(gradients(task, corpus, accumulate=2, packing=packing, world_size=2), expected)


def test_the_loss_is_the_mean_over_all_learned_tokens(tmp_path: Path):
    config = config_of(tmp_path, *MODELS["decoder"])
    corpus = prepare(config.data, config.tokenizer)
    task = new_task(config, corpus)
    file = corpus.open("train")
    total, count = 0.0, 0
    assert file.is_learned is not None
    for start in file.document_starts:
        ids = torch.from_numpy(file.ids[start : start + LENGTH].astype("int64"))[None]
        hidden, _ = task.model(ids[:, :-1])
        nll = torch.nn.functional.cross_entropy(task.model.head.logits(hidden)[0], ids[0, 1:], reduction="none")
        learned = torch.from_numpy(file.is_learned[start + 1 : start + LENGTH].copy())
        total, count = total + nll[learned].sum().item(), count + int(learned.sum())
    _, loss = gradients(task, corpus, accumulate=4, packing=True)
    assert loss == pytest.approx(total / count, abs=1e-10)
    assert corpus.splits["train"].learned == count


def test_a_split_is_measured_alike_however_it_is_cut(tmp_path: Path):
    config = config_of(tmp_path, *MODELS["decoder"])
    corpus = prepare(config.data, config.tokenizer)
    task = new_task(config, corpus)
    found = []
    for packing, rows, world_size in ((True, 1, 1), (True, 3, 2), (False, 5, 1), (True, 2, 5), (False, 8, 9)):
        data = replace(config.data, packing=packing, evaluation_batch_size=rows)
        sums = torch.zeros(2, dtype=torch.float64)
        for rank in range(world_size):
            batches = evaluation_batches(corpus.open("val"), data, rank=rank, world_size=world_size)
            for number in range(len(batches)):
                loss_sum, count, _ = task.evaluate(batches[number], None)
                sums += torch.stack((loss_sum.detach(), count.double()))
        found.append(sums)
    for sums in found[1:]:  # of five and nine ranks some have nothing
        torch.testing.assert_close(sums, found[0], atol=1e-9, rtol=0)
    assert int(found[0][1]) == corpus.splits["val"].learned


def test_questions_are_read_and_not_learned(tmp_path: Path):
    config = config_of(tmp_path, *MODELS["decoder"])
    corpus = prepare(config.data, config.tokenizer)
    batch = training_batches(corpus.open("train"), config.data, seed=0, accumulate=1)[0]
    for tokens, targets, segments in zip(*(batch[f"{k}_BT"] for k in ("tokens", "targets", "segments")), strict=True):
        for segment in range(1, IN_ROW + 1):
            mine = segments == segment
            text = corpus.tokenizer.decode(tokens[mine].tolist())
            answer = corpus.tokenizer.decode([t for t in targets[mine].tolist() if t != IGNORE])
            assert text.startswith("User: ")
            assert text.endswith(f"Assistant: {answer}")
            assert targets[mine][-2] == corpus.tokenizer.end_of_document_id


def _rank(rank: int, folder: str, port: int, results: Any) -> None:
    """Compute the gradient of a step as one of two ranks under DDP."""
    torch.set_num_threads(1)
    store = distributed.TCPStore("127.0.0.1", port, is_master=False)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    config = compose("train", Path(folder, "overrides.txt").read_text().splitlines())
    corpus = prepare(config.data, config.tokenizer)
    task = new_task(config, corpus)
    wrapped = DistributedDataParallel(task.model, find_unused_parameters=False)
    data = replace(config.data, batch_size=ROWS // 2)
    batches = training_batches(corpus.open("train"), data, seed=1, accumulate=2, rank=rank, world_size=2)
    plain = task.model
    for micro_step in range(2):
        batch = batches[micro_step]
        with wrapped.no_sync() if micro_step == 0 else torch.enable_grad():
            is_learned = batch["targets_BT"] != IGNORE
            hidden, _ = wrapped(batch["tokens_BT"], None, batch["segments_BT"])
            loss_sum = plain.head.nll_sum(hidden[is_learned], batch["targets_BT"][is_learned])
            (loss_sum / batch["mean_learned"] / 2).backward()
    if rank == 0:
        torch.save([weight.grad for weight in trained(plain)], results)
    distributed.barrier()
    os._exit(0)  # taking gloo apart hangs now and then


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "decoder", "adapters"])
def test_two_ranks_over_gloo_have_the_gradient_of_one(tmp_path: Path, name: str):
    config = config_of(tmp_path, *MODELS[name])
    lines = [
        *("data=chat", "task=sft", "data.template=plain", "tokenizer=bytes", "data.test_fraction=0"),
        *(f"data.{key}={getattr(config.data, key)}" for key in ("path", "val_path", "context_length")),
        *MODELS[name],
    ]
    (tmp_path / "overrides.txt").write_text("\n".join(lines))
    corpus = prepare(config.data, config.tokenizer)
    expected, _ = gradients(new_task(config, corpus), corpus, accumulate=1, packing=False)
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    given = (str(tmp_path), store.port, str(tmp_path / "gradients.pt"))
    context = multiprocessing.start_processes(_rank, given, nprocs=2, join=False, start_method="spawn")
    for _ in range(60):
        if context.join(timeout=2):
            break
    else:
        for process in context.processes:
            process.kill()
        pytest.fail("the ranks did not end within two minutes")
    for found, one in zip(torch.load(tmp_path / "gradients.pt"), expected, strict=True):
        torch.testing.assert_close(found, one, atol=1e-10, rtol=0)
