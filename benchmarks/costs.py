"""Is the memory that `lmexp explain --cost` foretells the memory that a run takes?

    python -m benchmarks.costs [--only NAME ...] [--steps 5] [--json FILE]

For each config new processes: one that foretells, and one that trains for some steps, when the text is prepared already
(which may take more memory than the training, once). The peak is what the kernel says about a process that has ended,
its largest resident set; so nothing of lmexp measures itself.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.process import python

CONFIGS = {
    "default": [],
    "transformer, AdamW": ["optimizer=adamw", "data.batch_size=32", "data.context_length=256"],
    "transformer, SGD, untied": [
        "optimizer=sgd",
        "model.tie_embeddings=false",
        "tokenizer.vocab_size=8192",
        "data.batch_size=16",
        "data.context_length=256",
    ],
    "transformer_small": ["model=transformer_small", "data.batch_size=4", "data.context_length=256"],
    "transformer_small, large batch": ["model=transformer_small", "data.batch_size=12", "data.context_length=512"],
    "transformer_small, accumulate": ["model=transformer_small", "trainer.accumulate=4", "data.context_length=256"],
    "transformer_small, deep, AdamW": [
        "model=transformer_small",
        "model.num_layers=24",
        "optimizer=adamw",
        "data.batch_size=2",
    ],
    "gpt2 by document": ["model=gpt2", "data.segments=true", "data.batch_size=32", "data.context_length=256"],
    "transformer, large evaluation": ["data.batch_size=2", "data.evaluation_batch_size=400"],
    "lstm": ["model=lstm", "data.batch_size=32", "data.context_length=256"],
    "lstm, AdamW, dropout": ["model=lstm", "optimizer=adamw", "model.dropout=0.3", "data.order=contiguous"],
    "lstm by document": ["model=lstm", "data.segments=true", "data.batch_size=16", "data.context_length=256"],
    "lstm_large, 8192 tokens": [
        "model=lstm_large",
        "tokenizer.vocab_size=8192",
        "optimizer=adamw",
        "data.batch_size=20",
    ],
    "encoder, masked": ["model=encoder", "task=masked", "data.batch_size=64"],
}

PREPARE = """
import sys
from lmexp.config.compose import compose
from lmexp.data.corpus import prepare
config = compose("train", sys.argv[1:])
prepare(config.data, config.tokenizer)
"""

QUIET = ["logger=none", "trainer.progress_bar=false", "callbacks.samples.prompts=[]"]


@dataclass(frozen=True)
class Result:
    """Bytes foretold and measured."""

    name: str
    predicted: int
    measured: int

    @property
    def ratio(self) -> float:
        """How much of the measured memory was foretold."""
        return self.predicted / self.measured


def compare(name: str, overrides: list[str], *, steps: int) -> Result:
    """Return what is foretold for a config and what its run takes."""
    arguments = [*overrides, *QUIET, f"trainer.max_steps={steps}"]
    with tempfile.TemporaryDirectory() as folder:
        python(["-c", PREPARE, *arguments], folder)
        foretold = python(["-m", "lmexp", "explain", "--cost", "--json", *arguments], folder)
        trained = python(["-m", "lmexp", "train", *arguments], folder)
    return Result(name, json.loads(foretold.output)["memory_bytes"]["peak"], trained.peak_bytes)


def compare_all(names: list[str], *, steps: int) -> Iterator[Result]:
    """Yield the results of the configs of these names."""
    for name in names:
        yield compare(name, CONFIGS[name], steps=steps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the results")
    arguments = parser.parse_args()
    print(f"{'config':<34} {'predicted':>10} {'measured':>10}  ratio")
    results = []
    for result in compare_all(arguments.only, steps=arguments.steps):
        results.append(asdict(result) | {"ratio": result.ratio})
        print(
            f"{result.name:<34} {_megabytes(result.predicted)} {_megabytes(result.measured)}  {result.ratio:.3f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def _megabytes(number: int) -> str:
    return f"{number / 1e6:>7,.0f} MB"


if __name__ == "__main__":
    main()
