"""A run measured over whole splits: of its own data, or other. What is measured is what the run's task measures.

Every token but the first of a text is predicted once, in windows side by side as in training, in windows that overlap
(`stride`), or, by a model that carries its state along (data.order=contiguous), in one stream from beginning to end. So
the batch size does not matter. The result is kept in the run folder, an evaluation a file: each metric with its
interval over examples, and what each example came to, so that two runs can be compared example by example.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lmexp.checkpoints import LoadedRun, load_run
from lmexp.config.data import Content, DataConfig, Order
from lmexp.config.evaluate import compose_evaluation
from lmexp.config.schema import build
from lmexp.config.store import to_dict
from lmexp.config.tokenizer import FileTokenizerConfig
from lmexp.config.train import TrainConfig
from lmexp.data.batches import SlidingBatches
from lmexp.data.corpus import Corpus, prepare
from lmexp.errors import ConfigError, DataError, Problem
from lmexp.evaluation import contamination
from lmexp.evaluation.intervals import LEVEL, interval
from lmexp.evaluation.measured import Measured, measure
from lmexp.runs import find_run
from lmexp.runs.folder import now, replace_file
from lmexp.tasks.base import Task

SPLITS = ("val", "test")
STREAM_TOKENS = 1024
"""How much of a stream is read at once; the state goes on, so it changes nothing but the speed."""


def evaluate(
    run: str,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str = "last",
    stride: int | None = None,
    contaminated: bool = False,
) -> dict[str, Any]:
    """Return {"run", "checkpoint", "data", "data_fingerprint", "splits", "metrics", "num_targets", "file"} of a run.

    `metrics` are named as in the run folder: val/loss_nats. `splits` has for each split what stands in the file:
    the number of examples, and each metric with its interval. `stride` lets windows overlap, so that each token has at
    least context_length - stride tokens before it. With `contaminated` examples that occur in the training text are
    counted, and the rest is measured by itself, too.

    Raises:
        LmexpError: there is no such run, or the data cannot be used.
    """
    config = compose_evaluation(find_run(run).path, overrides)
    _require_stride(config, stride)
    loaded = load_run(run, checkpoint)
    data = _as_one_stream(config.data)
    corpus = prepare(data, _tokenizer_of(loaded, config))
    if corpus.tokenizer.hash != loaded.tokenizer.hash:  # it was learned from a text that has changed since
        corpus = prepare(data, FileTokenizerConfig(path=str(loaded.run.tokenizer)))
    _require_same_labels(loaded, corpus)
    max_steps = config.trainer.max_steps
    task: Task = build(config.task, train_config=config, model=loaded.model, corpus=corpus, max_steps=max_steps)
    found: dict[str, dict[str, Any]] = {}
    metrics: dict[str, float] = {}
    for split in SPLITS:
        counts = corpus.splits[split]
        if counts.tokens < 2 or not counts.documents:
            continue
        batches = None if stride is None else SlidingBatches(corpus.open(split), data, stride)
        measured = measure(task, corpus, data, split, batches)
        found[split] = as_dict(measured)
        if contaminated:
            found[split]["contamination"] = contamination.report(loaded, data, split, measured)
        metrics |= {f"{split}/{name}": one["value"] for name, one in found[split]["metrics"].items()}
    if not found:
        raise DataError("there is no val or test split in this data; set data.val_fraction or data.val_path")
    result = {
        "run": str(loaded.run.path),
        "checkpoint": f"step-{loaded.step:06d}",
        "data": config.data.name,
        "data_fingerprint": corpus.fingerprint,
        "num_targets": {split: one["num_targets"] for split, one in found.items()},
        "metrics": metrics,
        "splits": found,
        "windows": _windows(data, stride),
        "data_config": to_dict(config.data),
        "task_config": to_dict(config.task),
        "created": now(),
    }
    result["file"] = _keep(loaded, result)
    return result


def as_dict(measured: Measured) -> dict[str, Any]:
    """Return what is kept of a split: metrics with their intervals, and what each example came to."""
    ones = np.ones(measured.count)
    metrics: dict[str, Any] = {}
    for name, metric in measured.metrics.items():
        low, high = interval(metric, measured.count) or (None, None)
        metrics[name] = {"value": metric(ones), "low": low, "high": high}
        if signature := measured.signatures.get(name):
            metrics[name]["signature"] = signature
    return {
        "num_examples": measured.count,
        "examples_are": measured.examples_are,
        "num_targets": measured.num_targets,
        "level": LEVEL,
        "metrics": metrics,
        **measured.details,
        "examples": measured.columns,
    }


def as_table(result: dict[str, Any]) -> str:
    """Return the result of `evaluate` for a terminal."""
    lines = [f"{result['run']} at {result['checkpoint']}, data={result['data']}"]
    for split, found in result["splits"].items():
        lines.append(
            f"{split}: {found['num_examples']:,} {found['examples_are']}, {found['num_targets']:,} predictions"
        )
        rows = [
            (name.replace("_", " "), _number(name, one["value"]), _interval(name, one), one.get("signature", ""))
            for name, one in found["metrics"].items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for name, value, between, signature in rows:
            line = f"  {name:<{widths[0]}}  {value:>{widths[1]}}  {between:<{widths[2]}}  {signature}"
            lines.append(line.rstrip())
        if "contamination" in found:
            lines += [f"  {line}" for line in contamination.as_lines(found["contamination"])]
    return "\n".join([*lines, f"kept in {result['file']}"])


def _number(name: str, value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) and value < 1e5 else f"{value:.4g}"


def _interval(name: str, one: dict[str, Any]) -> str:
    return "" if one["low"] is None else f"[{_number(name, one['low'])}, {_number(name, one['high'])}]"


def _windows(data: DataConfig, stride: int | None) -> str:
    if data.content is not Content.text:
        return "examples"
    if data.order is Order.contiguous:
        return "stream"
    length = data.context_length
    return f"disjoint, {length} tokens" if stride is None else f"sliding by {stride}, {length} tokens"


def _keep(loaded: LoadedRun, result: dict[str, Any]) -> str:
    """Write the evaluation into the run folder; the same one again takes the same file."""
    identity = {key: result[key] for key in ("checkpoint", "data_fingerprint", "data_config", "task_config", "windows")}
    digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()
    path = loaded.run.evaluations / f"{result['data']}-{result['checkpoint']}-{digest}.json"
    path.parent.mkdir(exist_ok=True)
    replace_file(path, json.dumps(result, ensure_ascii=False))
    return str(path)


def _require_stride(config: TrainConfig, stride: int | None) -> None:
    """Raise where windows cannot overlap.

    Raises:
        ConfigError: saying why.
    """
    if stride is None:
        return
    if config.data.content is not Content.text or config.data.order is Order.contiguous:
        raise ConfigError([Problem("--stride", "is for running text that is cut into windows, which this is not")])
    if not 0 < stride <= config.data.context_length:
        message = f"must be at least 1 and at most data.context_length={config.data.context_length}, not {stride}"
        raise ConfigError([Problem("--stride", message)])


def _require_same_labels(loaded: LoadedRun, corpus: Corpus) -> None:
    """Raise where the texts have other labels than the run tells.

    Raises:
        DataError: naming some.
    """
    if corpus.labels != loaded.labels:
        theirs, ours = (", ".join(labels[:6]) for labels in (corpus.labels, loaded.labels))
        raise DataError(f"these texts have other labels ({theirs}) than the run has learned ({ours})")


def _as_one_stream(data: DataConfig) -> DataConfig:
    if data.order is Order.shuffled:
        return data
    return replace(data, evaluation_batch_size=1, context_length=max(data.context_length, STREAM_TOKENS))


def _tokenizer_of(loaded: LoadedRun, config: TrainConfig) -> Any:
    """Return the run's own tokenizer config where its text is in the cache under that name, else the file it left."""
    is_own = config.data == loaded.config.data and config.tokenizer.is_learned
    return config.tokenizer if is_own else FileTokenizerConfig(path=str(loaded.run.tokenizer))
