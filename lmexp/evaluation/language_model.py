"""Loss, perplexity and bits per byte of a run over whole splits: its own text, or another.

Every token but the first of a split is predicted once, in windows side by side as in training, or, by a model that
carries its state along (data.order=contiguous), in one stream from beginning to end. So the batch size does not matter.
What is measured is what the run's task measures: an encoder fills in masked tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from lmexp.checkpoints import LoadedRun, load_run
from lmexp.config.data import DataConfig, Order
from lmexp.config.evaluate import compose_evaluation
from lmexp.config.schema import build
from lmexp.config.tokenizer import FileTokenizerConfig
from lmexp.config.train import TrainConfig
from lmexp.data.corpus import Corpus, prepare
from lmexp.data.order import evaluation_batches
from lmexp.errors import DataError
from lmexp.runs import find_run
from lmexp.tasks.base import Task
from lmexp.tasks.counters import Evaluation

SPLITS = ("val", "test")
STREAM_TOKENS = 1024
"""How much of a stream is read at once; the state goes on, so it changes nothing but the speed."""


def evaluate(run: str, overrides: Sequence[str] = (), *, checkpoint: str = "last") -> dict[str, Any]:
    """Return {"run", "checkpoint", "data", "data_fingerprint", "metrics", "num_targets"} of a run.

    Metrics are named as in the run folder: val/loss_nats. `num_targets` has the tokens predicted in each split.

    Raises:
        LmexpError: there is no such run, or the data cannot be used.
    """
    config = compose_evaluation(find_run(run).path, overrides)
    loaded = load_run(run, checkpoint)
    data = _as_one_stream(config.data)
    corpus = prepare(data, _tokenizer_of(loaded, config))
    if corpus.tokenizer.hash != loaded.tokenizer.hash:  # it was learned from a text that has changed since
        corpus = prepare(data, FileTokenizerConfig(path=str(loaded.run.tokenizer)))
    max_steps = config.trainer.max_steps
    task: Task = build(config.task, train_config=config, model=loaded.model, corpus=corpus, max_steps=max_steps)
    metrics: dict[str, float] = {}
    num_targets: dict[str, int] = {}
    for split in SPLITS:
        if corpus.splits[split].tokens > 1:
            totals = _run(task, corpus, data, split).totals.tolist()
            metrics |= task.metrics_of(split, totals[:-1], totals[-1])
            num_targets[split] = int(totals[-1])
    if not metrics:
        raise DataError("there is no val or test split in this data; set data.val_fraction or data.val_path")
    return {
        "run": str(loaded.run.path),
        "checkpoint": f"step-{loaded.step:06d}",
        "data": config.data.name,
        "data_fingerprint": corpus.fingerprint,
        "num_targets": num_targets,
        "metrics": metrics,
    }


def as_table(result: dict[str, Any]) -> str:
    """Return the result of `evaluate` for a terminal."""
    metrics = result["metrics"]
    names = list(dict.fromkeys(key.partition("/")[2] for key in metrics))
    table = [["", *(name.replace("_", " ") for name in names), "tokens"]]
    for split, count in result["num_targets"].items():
        table.append([split, *(f"{metrics[f'{split}/{name}']:.4f}" for name in names), f"{count:,}"])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in table]
    title = f"{result['run']} at {result['checkpoint']}, data={result['data']}"
    return "\n".join([title, *(line.rstrip() for line in lines)])


@torch.no_grad()
def _run(task: Task, corpus: Corpus, data: DataConfig, split: str) -> Evaluation:
    batches, sums = evaluation_batches(corpus.open(split), data), Evaluation(task.num_sums)
    device = next(task.model.parameters()).device
    for number in range(len(batches)):
        batch = {key: value.to(device) for key, value in batches[number].items()}
        loss_sum, num_targets, carried = task.evaluate(batch, sums.carried)
        sums.add(loss_sum.cpu(), num_targets.cpu(), carried)
    return sums


def _as_one_stream(data: DataConfig) -> DataConfig:
    if data.order is Order.shuffled:
        return data
    return replace(data, evaluation_batch_size=1, context_length=max(data.context_length, STREAM_TOKENS))


def _tokenizer_of(loaded: LoadedRun, config: TrainConfig) -> Any:
    """Return the run's own tokenizer config where its text is in the cache under that name, else the file it left."""
    is_own = config.data == loaded.config.data and config.tokenizer.is_learned
    return config.tokenizer if is_own else FileTokenizerConfig(path=str(loaded.run.tokenizer))
