"""What each example of a split comes to, and the metrics that follow from it.

An example is what would be drawn anew if the data were collected again: a document, a conversation, a pair, a text with
its label. A text of few documents is cut into stretches, for an interval over a handful of documents says nothing.
Shapes: B rows, T tokens, N examples, K labels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmexp.config.data import Content, DataConfig
from lmexp.config.task import TextMetric
from lmexp.data.batches import Batch
from lmexp.data.corpus import Corpus
from lmexp.data.order import Split, evaluation_batches
from lmexp.errors import DataError
from lmexp.evaluation.intervals import Metric, ratio, then
from lmexp.metrics import CALIBRATION_BINS, calibration_error, counter_of, macro_f1, per_class, perplexity, rouge_of
from lmexp.tasks.base import Task
from lmexp.tasks.classify import Classify
from lmexp.tasks.seq2seq import Seq2Seq
from lmexp.tokenization import TokenFile, Tokenizer

Column = NDArray[np.float64]

FEW_DOCUMENTS = 30
STRETCH_TOKENS = 256


@dataclass
class Measured:
    """The examples of a split as a run does on them."""

    examples_are: str
    num_targets: int
    columns: dict[str, list[Any]]
    """One value an example, in the order of the split: what `compare` puts side by side."""
    metrics: dict[str, Metric]
    signatures: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """What is no single number: the scores of each label."""

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(next(iter(self.columns.values())))


def measure(task: Task, corpus: Corpus, data: DataConfig, split: str, batches: Split | None = None) -> Measured:
    """Return what each example of a split comes to; `batches` are all of it, else as the config has them.

    Raises:
        DataError: nothing is predicted in it.
    """
    batches = evaluation_batches(corpus.open(split), data) if batches is None else batches
    if isinstance(task, Classify):
        return _of_labels(task, corpus, batches, split)
    measured = _of_tokens(task, corpus, data, split, batches)
    if isinstance(task, Seq2Seq) and task.settings.metrics:
        _add_written(measured, task, split)
    return measured


# -- tasks with a loss for each token --------------------------------------------------------------------------------


def _of_tokens(task: Task, corpus: Corpus, data: DataConfig, split: str, batches: Split) -> Measured:
    file = corpus.open(split)
    count, examples_are, owner = _owners(file, data)
    nll_N, tokens_N = np.zeros(count), np.zeros(count)
    for batch, carried in _each(batches, task):
        nll_BT, is_target_BT, carried.state = task.token_losses(batch, carried.state)
        owners = owner(batch)[is_target_BT.cpu().numpy()]
        np.add.at(nll_N, owners, nll_BT.double()[is_target_BT].cpu().numpy())
        np.add.at(tokens_N, owners, 1.0)
    if not tokens_N.sum():
        raise DataError(f"nothing in the {split} split is predicted; give it more text")
    loss = ratio(nll_N, tokens_N)
    metrics: dict[str, Metric] = {"loss_nats": loss, "perplexity": then(loss, perplexity)}
    known = task.metrics_of(split, [float(nll_N.sum()), *[0.0] * (task.num_sums - 1)], float(tokens_N.sum()))
    if f"{split}/bits_per_byte" in known:
        texts = list(_texts(file, data, count, corpus.tokenizer))
        bytes_N = np.array([len(text.encode()) for text in texts], dtype=np.float64)
        bytes_N *= corpus.splits[split].bytes / max(1.0, bytes_N.sum())  # with what stood between documents
        metrics["bits_per_byte"] = then(ratio(nll_N, bytes_N), lambda nats: nats / math.log(2))
        if data.content is Content.text:
            words_N = np.array([len(text.split()) for text in texts], dtype=np.float64)
            metrics["word_perplexity"] = then(ratio(nll_N, words_N), perplexity)
    columns = {"nll_nats": nll_N.tolist(), "tokens": tokens_N.astype(int).tolist()}
    return Measured(examples_are, int(tokens_N.sum()), columns, metrics)


class _Carried:
    """The state that goes from batch to batch."""

    state: Any = None


def _each(batches: Split, task: Task) -> Any:
    carried, device = _Carried(), next(task.model.parameters()).device
    with torch.no_grad():
        for number in range(len(batches)):
            batch = {key: v.to(device) if hasattr(v, "to") else v for key, v in batches[number].items()}
            yield batch, carried


def _owners(file: TokenFile, data: DataConfig) -> tuple[int, str, Callable[[Batch], NDArray[np.int64]]]:
    """Return the number of examples, what they are, and what says which one each token of a batch belongs to."""
    starts = np.asarray(file.document_starts)
    if data.content is Content.pairs:
        return (
            len(starts) // 2,
            "pairs",
            lambda batch: np.broadcast_to(batch["numbers_B"].cpu().numpy()[:, None], batch["tokens_BT"].shape),
        )
    if data.content is Content.answers:
        return (
            len(starts),
            "conversations",
            lambda batch: np.append(batch["units_U"].cpu().numpy(), -1)[batch["examples_BT"].cpu().numpy()],
        )
    if len(starts) >= FEW_DOCUMENTS:
        return len(starts), "documents", lambda batch: np.searchsorted(starts, _positions(batch), side="right") - 1
    count = max(1, -(-len(file.ids) // STRETCH_TOKENS))
    return (
        count,
        f"stretches of {STRETCH_TOKENS} tokens",
        lambda batch: np.minimum(_positions(batch) // STRETCH_TOKENS, count - 1),
    )


def _positions(batch: Batch) -> NDArray[np.int64]:
    """Return where in the split each predicted token stands."""
    columns_T = np.arange(batch["tokens_BT"].shape[1])
    return batch["starts_B"].cpu().numpy()[:, None] + columns_T + 1


def _texts(file: TokenFile, data: DataConfig, count: int, tokenizer: Tokenizer) -> Any:
    """Yield the text that is predicted of each example."""
    starts = np.asarray(file.document_starts)
    if data.content is Content.text and len(starts) < FEW_DOCUMENTS:
        borders = np.minimum(np.arange(count + 1) * STRETCH_TOKENS, len(file.ids))
    else:
        borders = np.append(starts, len(file.ids))
    step = 2 if data.content is Content.pairs else 1
    for number in range(count):
        place = slice(*borders[number * step + step - 1 : number * step + step + 1])
        ids = file.ids[place]
        if data.content is Content.answers and file.is_learned is not None:
            ids = ids[file.is_learned[place]]
        yield tokenizer.decode(ids.tolist())


# -- labels ----------------------------------------------------------------------------------------------------------


def _of_labels(task: Classify, corpus: Corpus, batches: Split, split: str) -> Measured:
    file, num_labels = corpus.open(split), len(task.labels)
    assert file.labels is not None
    shares_NK = np.full((len(file.labels), num_labels), np.nan)
    for batch, _ in _each(batches, task):
        shares_NK[batch["numbers_B"].cpu().numpy()] = task.probabilities(batch).cpu().numpy()
    is_used_N = ~np.isnan(shares_NK[:, 0])
    shares_NK, labels_N = shares_NK[is_used_N], np.asarray(file.labels)[is_used_N]
    if not len(labels_N):
        raise DataError(f"nothing in the {split} split is labelled; give it more texts")
    found_N, confidence_N = shares_NK.argmax(axis=1), shares_NK.max(axis=1)
    hit_N = (found_N == labels_N).astype(np.float64)
    with np.errstate(divide="ignore"):
        nll_N = -np.log(shares_NK[np.arange(len(labels_N)), labels_N])
    cells_N = labels_N * num_labels + found_N
    bins_N = np.clip(np.ceil(confidence_N * CALIBRATION_BINS).astype(int), 1, CALIBRATION_BINS) - 1

    def matrix(weights: Column) -> NDArray[np.int64]:
        flat = np.bincount(cells_N, weights=weights, minlength=num_labels**2)
        return flat.reshape(num_labels, num_labels).astype(np.int64)

    def calibration(weights: Column) -> float:
        parts = (weights, weights * confidence_N, weights * hit_N)
        return calibration_error(*(np.bincount(bins_N, weights=w, minlength=CALIBRATION_BINS) for w in parts))

    ones_N = np.ones(len(labels_N))
    return Measured(
        "texts",
        len(labels_N),
        {
            "label": [task.labels[label] for label in labels_N],
            "found": [task.labels[label] for label in found_N],
            "hit": hit_N.astype(int).tolist(),
            "confidence": confidence_N.round(6).tolist(),
            "nll_nats": nll_N.tolist(),
        },
        {
            "accuracy": ratio(hit_N, ones_N),
            "macro_f1": lambda weights: macro_f1(matrix(weights)),
            "calibration_error": calibration,
            "loss_nats": ratio(nll_N, ones_N),
        },
        {"calibration_error": f"ECE, {CALIBRATION_BINS} bins of equal width"},
        {
            "labels": list(task.labels),
            "confusion": matrix(ones_N).tolist(),
            "per_class": dict(zip(task.labels, per_class(matrix(ones_N)), strict=True)),
        },
    )


# -- written texts ---------------------------------------------------------------------------------------------------


def _add_written(measured: Measured, task: Seq2Seq, split: str) -> None:
    """Add what the model writes from each source, and how near it is to the target."""
    questions, settings = task.questions(split), task.settings
    found, expected = task.write(questions), [question.answer for question in questions]
    measured.columns |= {"written": found, "target": expected}
    options: dict[str, Any] = {"lowercase": settings.lowercase, "bleu_tokenizer": settings.bleu_tokenizer}
    pairs = list(zip(found, expected, strict=True))
    for metric in settings.metrics:
        if metric is TextMetric.exact_match:
            same = [(a.lower(), b.lower()) if settings.lowercase else (a, b) for a, b in pairs]
            _add_mean(measured, "exact_match", [float(a.strip() == b.strip()) for a, b in same])
        elif metric is TextMetric.rouge:
            of_pairs = rouge_of(found, expected)
            for name in of_pairs[0]:
                _add_mean(measured, name, [one[name] for one in of_pairs])
            measured.signatures["rouge"] = "rouge-score, F1, no stemmer"
        else:
            counter = counter_of(metric, **options)
            of_one = counter_of(metric, **options, effective_order=True)
            measured.columns[f"sentence_{metric.name}"] = [of_one.sentence_score(a, [b]).score for a, b in pairs]
            measured.metrics[metric.name] = _corpus_score(counter, found, expected)
            measured.signatures[metric.name] = str(counter.get_signature())


def _add_mean(measured: Measured, name: str, values: list[float]) -> None:
    measured.columns[name] = values
    measured.metrics[name] = ratio(np.array(values), np.ones(len(values)))


def _corpus_score(counter: Any, found: list[str], expected: list[str]) -> Metric:
    """Return sacreBLEU's score of a corpus in which each pair counts so often."""
    statistics = np.array(counter._extract_corpus_statistics(found, [expected]), dtype=np.float64)
    counter.corpus_score(found, [expected])  # which knows the number of references for the signature

    def metric(weights: Column) -> float:
        return float(counter._compute_score_from_stats((weights @ statistics).astype(int).tolist()).score)

    return metric
