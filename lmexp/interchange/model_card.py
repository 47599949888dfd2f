"""README.md of an exported model, made of what the run's record knows; what it does not know is not there."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmexp import __version__
from lmexp.checkpoints import LoadedRun
from lmexp.config.model import Kind
from lmexp.interchange.document import NAME as DESCRIPTION

METRICS = {"loss_nats": "loss (nats a token)", "perplexity": "perplexity", "bits_per_byte": "bits per byte"}

CAUSAL = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
ids = tokenizer("The", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=100)[0]))
```"""
MASKED = """\
```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

The token that stands for a masked one is number {mask_id}."""
TENSORS = f"""\
`model.safetensors` holds the tensors; `{DESCRIPTION}` says what each is, the equations that use them, and what each
token number stands for, so that a reader can be written in any language. `tokenizer.json` is in the format of Hugging
Face's `tokenizers`."""
LMEXP = """\
With lmexp ({version} wrote this):

```
lmexp import {name}
lmexp generate {name} --prompt "The"
lmexp train init_from={name} data=text data.path=FILE
```"""
LICENCE = """\
## Licence

None is stated. Whoever publishes this model chooses one, with an eye on the licences of the text it was trained on.
"""


def model_card(loaded: LoadedRun, to: str, name: str) -> str:
    """Return the text of README.md."""
    parts = [_front_matter(loaded, to), f"# {loaded.config.display_name}\n", _what(loaded)]
    if figures := list(_figures(loaded.run.record.get("metrics", {}))):
        parts.append("## Figures\n\n" + "\n".join(["| figure | val | test |", "|---|---|---|", *figures]) + "\n")
    made = "\n".join(f"- {key}: {value}" for key, value in _made(loaded) if value not in (None, ""))
    parts.append(f"## How it was made\n\n{made}\n")
    parts.append(f"## How to use it\n\n{_use(loaded, to, name)}\n")
    parts.append(LICENCE)
    return "\n".join(parts)


def _front_matter(loaded: LoadedRun, to: str) -> str:
    tag = {Kind.decoder: "text-generation", Kind.encoder: "fill-mask"}.get(loaded.config.model.kind)
    lines = ["library_name: transformers", *([f"pipeline_tag: {tag}"] if tag else [])] if to == "hf" else []
    return "\n".join(["---", *lines, "tags:", "- lmexp", "---", ""])


def _what(loaded: LoadedRun) -> str:
    config, tokenizer = loaded.config, loaded.tokenizer
    sizes = f"{getattr(config.model, 'num_layers', '')} layers of width {getattr(config.model, 'hidden_size', '')}, "
    length = loaded.model.max_length
    reach = f", at most {length:,} tokens in a row" if length else ""
    return (
        f"A language model of lmexp's kind `{config.model.name}`: {sizes}{loaded.model.num_parameters():,} parameters, "
        f"{tokenizer.vocab_size:,} tokens (`{config.tokenizer.name}`){reach}.\n"
    )


def _figures(metrics: dict[str, Any]) -> Iterator[str]:
    for key, title in METRICS.items():
        values = [metrics.get(f"{split}/{key}") for split in ("val", "test")]
        if any(value is not None for value in values):
            yield f"| {title} | " + " | ".join("" if v is None else f"{v:.4f}" for v in values) + " |"


def _made(loaded: LoadedRun) -> Iterator[tuple[str, Any]]:
    record, config = loaded.run.record, loaded.config
    imported, source = record.get("imported"), record.get("init_from")
    if imported:
        yield "imported", f"{Path(imported['path']).name} ({imported['architecture']}), not trained by lmexp"
        return
    if source:
        yield "fine-tuned from", f"{Path(source['path']).name}, {source['checkpoint']}"
    text = getattr(config.data, "path", None)
    yield "text", f"`data={config.data.name}`" + (f", {Path(text).name}" if text else "")
    yield "fingerprint of the text", record.get("data_fingerprint")
    yield "tokens read in training", f"{record['tokens']:,}" if record.get("tokens") else None
    yield "checkpoint", f"step {loaded.step:,} of {record.get('max_steps', loaded.step):,}"
    yield "task", config.task.name
    yield "optimizer", f"{config.optimizer.name}, learning rate {config.optimizer.learning_rate:g}"
    yield "batch", f"{config.rows_per_step} rows of {config.data.context_length} tokens"
    yield "training time", f"{record['seconds_trained']:,.0f} seconds" if record.get("seconds_trained") else None
    yield "floating-point operations", f"{record['flops']:.3g}" if record.get("flops") else None
    yield "device", record.get("device")
    yield "seed", config.seed
    yield "run", record.get("id")
    git = record.get("git") or {}
    yield "source", f"git {git['commit'][:12]}{' with changes' if git.get('dirty') else ''}" if git else None
    command = record.get("command")
    yield "command", f"`lmexp {shlex.join(command)}`" if command else None


def _use(loaded: LoadedRun, to: str, name: str) -> str:
    if to == "safetensors":
        return f"{TENSORS}\n\n{LMEXP.format(version=__version__, name=name)}"
    is_encoder = loaded.config.model.kind is Kind.encoder
    code = MASKED if is_encoder else CAUSAL
    mask = loaded.tokenizer.vocab_size if loaded.tokenizer.mask_id is None else loaded.tokenizer.mask_id
    return f"{code.format(name=name, mask_id=mask)}\n\n{LMEXP.format(version=__version__, name=name)}"
