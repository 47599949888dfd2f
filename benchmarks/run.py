"""Is lmexp faster to the same quality than what people would pick instead? A table of ratios, all numbers as JSON.

    python -m benchmarks.run [NAME ...] [--nanogpt CHECKOUT] [--examples CHECKOUT] [--shakespeare FILE]
                             [--wikitext FOLDER] [--smollm2 FOLDER] [--alpaca FILE]
                             [--rounds N] [--threads 2] [--json FILE]

Without names all that have what they need are run. `--list` says what each measures, counts and needs. The peers are
not part of lmexp: give a checkout of karpathy/nanoGPT, one of pytorch/examples, and install the extra hf and trl.
"""

import argparse
import json
import os
import platform
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Benchmark, as_json, compare, measure, table


@dataclass(frozen=True)
class Entry:
    """A benchmark by name."""

    what: str
    made_by: str
    """module:function; called with what it needs, in this order, and threads."""
    needs: tuple[str, ...] = ()

    def make(self, options: argparse.Namespace) -> AbstractContextManager[Benchmark]:
        """Return the sides, ready to be measured."""
        module, function = self.made_by.split(":")
        needed = (getattr(options, need) for need in self.needs)
        made: AbstractContextManager[Benchmark] = getattr(import_module(module), function)(
            *needed, threads=options.threads
        )
        return made


ENTRIES = {
    "shakespeare": Entry(
        "tokens, wall time and memory to nanoGPT's loss, its recipe as documented and as tuned",
        "benchmarks.shakespeare:to_its_loss",
        ("nanogpt", "shakespeare"),
    ),
    "equal_tokens": Entry(
        "the loss that nanoGPT's 1.5 million tokens are worth",
        "benchmarks.shakespeare:at_equal_tokens",
        ("nanogpt", "shakespeare"),
    ),
    "memory": Entry(
        "the most memory of nanoGPT's model, at 0.8 and at 11 million parameters",
        "benchmarks.shakespeare:in_memory",
        ("nanogpt", "shakespeare"),
    ),
    "trainer": Entry(
        "wall time to the loss of a GPT-2 of 4 x 128 by transformers' Trainer",
        "benchmarks.wikitext:beside_the_trainer",
        ("wikitext",),
    ),
    "lstm": Entry(
        "wall time and memory to the perplexity of PyTorch's word_language_model after an epoch",
        "benchmarks.wikitext:beside_the_lstm_example",
        ("examples", "wikitext"),
    ),
    "sft": Entry(
        "an epoch of SmolLM2-135M with LoRA on Alpaca's conversations, and the loss of answers after it, beside TRL",
        "benchmarks.sft:of_an_epoch",
        ("smollm2", "alpaca"),
    ),
    "sft_speed": Entry(
        "what of such conversations is learned a second, beside TRL with padded and with packed rows",
        "benchmarks.sft:of_some_steps",
        ("smollm2", "alpaca"),
    ),
    "overhead": Entry(
        "a small step in lmexp and in a bare PyTorch loop",
        "benchmarks.overhead:of_small_steps",
    ),
    "overhead_30_ms": Entry(
        "a step of some 30 ms in lmexp and in a bare PyTorch loop",
        "benchmarks.overhead:of_medium_steps",
    ),
    "batch": Entry(
        "a batch of 12 x 64 from a token file of 100 MB",
        "benchmarks.batches:of_a_large_file",
        ("nanogpt",),
    ),
    "tokenization": Entry(
        "WikiText-2's training text to ids, on all cores and on one",
        "benchmarks.tokenization:of_a_text",
        ("wikitext",),
    ),
    "preparation": Entry(
        "a text of 1 GB made ready for training: time and memory",
        "benchmarks.preparation:of_a_gigabyte",
        ("wikitext",),
    ),
    "documents": Entry(
        "attention to packed documents one by one, and with a mask",
        "benchmarks.documents:of_packed_rows",
    ),
    "startup": Entry(
        "the second start of lmexp train to its first step",
        "benchmarks.startup:to_the_first_step",
    ),
    "generation": Entry(
        "500 characters from a 4 x 128 decoder, beside nanoGPT's sample.py and transformers' generate",
        "benchmarks.generation:of_text",
        ("nanogpt",),
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENTRIES))
    parser.add_argument("--list", action="store_true", help="say what each measures and needs")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--examples", type=Path, help="a checkout of pytorch/examples")
    parser.add_argument("--shakespeare", type=Path, help="tiny Shakespeare as one text file")
    parser.add_argument("--wikitext", type=Path, help="a folder with WikiText-2's train, valid and test")
    parser.add_argument("--smollm2", type=Path, help="SmolLM2-135M as a folder that transformers loads")
    parser.add_argument("--alpaca", type=Path, help="a file of conversations")
    parser.add_argument("--rounds", type=int, help="instead of 5, or 3 where a round takes minutes")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads on every side")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where all numbers go")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run benchmarks and print their tables; returns 1 when a goal was missed."""
    options = parser().parse_args(arguments)
    if options.list:
        for name, entry in ENTRIES.items():
            needs = f" (--{' --'.join(entry.needs)})" if entry.needs else ""
            print(f"{name:<16} {entry.what}{needs}")
        return 0
    if unknown := [name for name in options.names if name not in ENTRIES]:
        print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(ENTRIES)}", file=sys.stderr)
        return 2
    chosen = {name: ENTRIES[name] for name in options.names or ENTRIES}
    found: dict[str, object] = {"machine": machine(options.threads)}
    is_missed = False
    for name, entry in chosen.items():
        missing = [f"--{need}" for need in entry.needs if getattr(options, need) is None]
        if missing:
            print(f"{name}: left out, give {' and '.join(missing)}\n")
            is_missed = is_missed or bool(options.names)
            continue
        with entry.make(options) as benchmark:
            results = measure(benchmark, rounds=options.rounds)
        rows = compare(benchmark, results)
        is_missed = is_missed or any(row.is_met is False for row in rows)
        print(*table(name, rows), f" counted: {benchmark.counts}", "", sep="\n", flush=True)
        found[name] = as_json(benchmark, results, rows)
        options.json.write_text(json.dumps(found, indent=1))
    print(f"all numbers: {options.json}")
    return int(is_missed)


def machine(threads: int) -> dict[str, object]:
    """Return what the numbers were taken on."""
    import torch

    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "load_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
