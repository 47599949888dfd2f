"""WikiText-2: a small GPT-2 by transformers' Trainer, and PyTorch's word_language_model, beside ours.

Recipes were tuned on the val split; every loss here is that of the test split.
"""

import gzip
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hf_trainer, ours
from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities
from benchmarks.process import python
from lmexp.config.compose import compose
from lmexp.data.corpus import prepare

SPLITS = ("train", "valid", "test")
TRAINER, EXAMPLE = "Trainer, tuned", "word_language_model"
TRAINER_STEPS = 1000
TRAINER_LEARNING_RATE = 6e-3
"""The better of 3e-3 and 6e-3 on val; Trainer's own default, 5e-5, learns next to nothing in so few steps."""


@contextmanager
def beside_the_trainer(wikitext: Path, *, threads: int) -> Iterator[Benchmark]:
    """GPT-2's model of 4 x 128 on 2 million tokens of an 8k vocabulary, and how soon ours is where it ends."""
    with plain(wikitext) as texts:
        recipe = ["experiment=wikitext2_fast", f"data.path={texts}"]
        config = compose("train", recipe)
        corpus = prepare(config.data, config.tokenizer).folder

        def theirs(seed: int) -> Quantities:
            return hf_trainer.train(
                corpus, steps=TRAINER_STEPS, learning_rate=TRAINER_LEARNING_RATE, seed=seed, threads=threads
            )

        yield Benchmark(
            counts="whole processes, the text tokenized before: imports, training, the loss of val and of test",
            sides={
                OURS: lambda seed: ours.train(recipe, seed=seed, threads=threads),
                TRAINER: theirs,
                AGAIN: lambda seed: ours.train(recipe, seed=seed, threads=threads),
            },
            rounds=3,
            goals=[Goal(TRAINER, "wall_seconds", 3), Goal(TRAINER, "test_loss_nats", 0)],
        )


@contextmanager
def beside_the_lstm_example(examples: Path, wikitext: Path, *, threads: int) -> Iterator[Benchmark]:
    """Two layers of 200 on whole words, its recipe for one epoch, and how soon ours has that perplexity."""
    with plain(wikitext) as texts:
        recipe = ["experiment=wikitext2_lstm_fast", f"data.path={texts}"]
        yield Benchmark(
            counts="whole processes: imports, reading the text, training, the loss of val and of test, a checkpoint",
            sides={
                OURS: lambda seed: ours.train(recipe, seed=seed, threads=threads),
                EXAMPLE: lambda seed: _example(examples, texts, seed=seed, threads=threads),
                AGAIN: lambda seed: ours.train(recipe, seed=seed, threads=threads),
            },
            rounds=3,
            goals=[
                Goal(EXAMPLE, "wall_seconds", 3),
                Goal(EXAMPLE, "peak_bytes", 1 / 0.75),
                Goal(EXAMPLE, "test_loss_nats", 0),
            ],
        )


def _example(examples: Path, texts: Path, *, seed: int, threads: int) -> Quantities:
    sizes = ["--model", "LSTM", "--emsize", "200", "--nhid", "200", "--nlayers", "2", "--epochs", "1"]
    with tempfile.TemporaryDirectory() as folder:
        script = [str((examples / "word_language_model" / "main.py").resolve()), *sizes]
        options = ["--data", str(texts), "--seed", str(1111 + seed), "--save", f"{folder}/model.pt"]
        finished = python([*script, *options], folder, threads=threads)
    perplexity = re.search(r"End of training.*test ppl\s+([\d.]+)", finished.output)
    if perplexity is None:
        raise RuntimeError(f"word_language_model printed no test perplexity:\n{finished.output[-500:]}")
    return {
        "wall_seconds": finished.wall_seconds,
        "peak_bytes": finished.peak_bytes,
        "test_loss_nats": math.log(float(perplexity[1])),
    }


@contextmanager
def plain(wikitext: Path) -> Iterator[Path]:
    """Yield a folder with the three texts under the names that both sides know."""
    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            plain, packed = wikitext / f"{split}.txt", wikitext / f"{split}.txt.gz"
            content = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
            (Path(folder) / f"{split}.txt").write_bytes(content)
        yield Path(folder)
