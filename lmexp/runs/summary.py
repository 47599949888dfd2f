"""What a run has come to, for the end of a command."""

import shlex
from typing import Any

from lmexp.config.data import Content
from lmexp.config.model import Kind
from lmexp.runs.folder import RunFolder, status_of
from lmexp.runs.text import printable


def summary(run: RunFolder) -> str:
    """Return the result of a finished run: numbers, generated texts, and what to try next."""
    record, metrics = run.record, run.record.get("metrics", {})
    rows = [
        ("val loss", _with_unit(metrics.get("val/loss_nats"), ".4f", f"nats a {_target(run)}")),
        ("accuracy", _with_unit(metrics.get("val/accuracy"), ".1%", "")),
        ("exact match", _with_unit(metrics.get("val/exact_match"), ".1%", "")),
        ("ROUGE-L", _with_unit(metrics.get("val/rougeL"), ".3f", "")),
        ("macro F1", _with_unit(metrics.get("val/macro_f1"), ".3f", "")),
        ("BLEU", _with_unit(metrics.get("val/bleu"), ".1f", "")),
        ("chrF", _with_unit(metrics.get("val/chrf"), ".1f", "")),
        ("bits per byte", _with_unit(metrics.get("val/bits_per_byte"), ".4f", "")),
        ("perplexity", _with_unit(metrics.get("val/perplexity"), ",.2f", "")),
        ("test", _test(metrics)),
        ("speed", _with_unit(metrics.get("train/tokens_per_second"), ",.0f", "tokens/s")),
        ("trained", _trained(record)),
        ("parameters", _with_unit(record.get("parameters"), ",", "")),
        ("operations", _with_unit(record.get("flops"), ".3g", "in all")),
        ("memory", _memory(record)),
        ("folder", str(run.path)),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows if value]
    last = max((row["step"] for row in run.samples), default=None)
    continues = run.config.data.content is Content.text
    texts = [row for row in run.samples if row["step"] == last][:3]
    if texts:
        lines += ["", "samples"]
        for row in texts:
            between = "" if continues else "\n"
            answer = row["text"] or ("" if continues else "(nothing)")
            text = printable(row["prompt"] + between + answer).strip().replace("\n", "\n    ")
            lines += [f"  - {text}"]
    name, prompt = run.path.name, texts[0]["prompt"] if texts else "The"
    first = f"  lmexp generate {name} --prompt {shlex.quote(prompt)}"
    if run.config.data.content in (Content.labels, Content.pairs):
        first = f"  lmexp generate {name} --prompt {shlex.quote(texts[0]['prompt'] if texts else 'A text')}"
    elif run.config.model.kind is not Kind.decoder:
        first = f"  lmexp evaluate {name}"
    elif not continues:
        first = f"  lmexp chat {name}"
    lines += [
        "",
        "next",
        first,
        *(["  lmexp train model=lstm          another model, the same data"] if continues else []),
        "  lmexp runs                      all runs and their results",
    ]
    return "\n".join(lines)


def one_line(run: RunFolder) -> str:
    """Return the result of a run in one line."""
    record = run.record
    metrics = record.get("metrics", {})
    loss = _with_unit(metrics.get("val/loss_nats"), ".4f", "nats")
    return f"{status_of(record)}  val {loss or '-'}  {run.path}"


def _target(run: RunFolder) -> str:
    return {Content.preferences: "pair", Content.labels: "text"}.get(run.config.data.content, "token")


def _test(metrics: dict[str, Any]) -> str:
    loss = _with_unit(metrics.get("test/loss_nats"), ".4f", "nats")
    bits = _with_unit(metrics.get("test/bits_per_byte"), ".4f", "bits per byte")
    perplexity = _with_unit(metrics.get("test/perplexity"), ",.2f", "")
    accuracy = _with_unit(metrics.get("test/accuracy"), ".1%", "")
    bleu = _with_unit(metrics.get("test/bleu"), ".2f", "BLEU")
    parts = (loss, bits, perplexity and f"perplexity {perplexity}", accuracy and f"accuracy {accuracy}", bleu)
    return ", ".join(part for part in parts if part) if loss else ""


def _trained(record: dict[str, Any]) -> str:
    tokens, seconds = record.get("tokens"), record.get("seconds_trained")
    if not tokens or not seconds:
        return ""
    return f"{tokens:,} tokens in {record['step']:,} steps, {seconds:,.0f} seconds"


def _memory(record: dict[str, Any]) -> str:
    measured, predicted = record.get("peak_memory_bytes"), record.get("predicted_memory_bytes")
    if not measured:
        return ""
    return f"{in_bytes(measured)} at the peak" + (f", {in_bytes(predicted)} predicted" if predicted else "")


def in_bytes(number: int) -> str:
    """Return a number of bytes for people, three digits of it.

    Example:
        >>> in_bytes(1_574_912)
        '1.57 MB'
    """
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if number >= 0.9995 * 10**power:
            value = number / 10**power
            return f"{value:.{max(0, 3 - len(str(round(value))))}f} {unit}"
    return f"{number} bytes"


def _with_unit(value: Any, form: str, unit: str) -> str:
    return f"{value:{form}} {unit}".strip() if isinstance(value, int | float) else ""
