"""Shakespeare's characters, 0.8 million parameters, context 64: how much sooner is nanoGPT's loss reached?

The last tenth of the text is nanoGPT's validation split. Its first half is our val, on which recipes were tuned; its
second half is our test, on which every loss here is taken, the peer's too. The training text is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import nanogpt, ours
from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, Quantities

COUNTS = (
    "whole processes, the text tokenized before: imports, training, their own evaluations (nanoGPT's estimates every "
    "250 steps, ours of val and test), checkpoints; nothing is compiled"
)
TUNED = {"learning_rate": 3e-3, "min_lr": 3e-4, "max_iters": 1150, "lr_decay_iters": 1150}
"""nanoGPT's best of as many runs as ours had: the shortest that reaches the loss of its documented recipe."""
GENTLER = [
    "optimizer.learning_rate=0.02",
    "optimizer.adamw_learning_rate=0.02",
    "optimizer.momentum=0.95",
    "optimizer.beta1=0.8",
]
"""What a recipe for 130 steps needs to go on for 2,000."""
PEER, TUNED_PEER, EXPORTABLE = "nanoGPT", "nanoGPT, tuned", "lmexp, exportable"


@contextmanager
def to_its_loss(checkout: Path, text: Path, *, threads: int) -> Iterator[Benchmark]:
    """Ours, and nanoGPT as its README trains it and as we tuned it."""
    recipe = ["experiment=shakespeare_fast", f"data.path={text.resolve()}"]
    with nanogpt.folder(checkout, text) as inside:
        yield Benchmark(
            counts=COUNTS,
            sides={
                OURS: lambda seed: ours.train(recipe, seed=seed, threads=threads),
                AGAIN: lambda seed: ours.train(recipe, seed=seed, threads=threads),
                PEER: lambda seed: nanogpt.train(inside, {}, seed=seed, threads=threads),
                TUNED_PEER: lambda seed: nanogpt.train(inside, TUNED, seed=seed, threads=threads),
            },
            goals=[
                Goal(PEER, "tokens", 10),
                Goal(PEER, "wall_seconds", 5),
                Goal(PEER, "peak_bytes", 1 / 1.2),
                Goal(PEER, "test_loss_nats", 0),
                Goal(TUNED_PEER, "tokens", 5),
                Goal(TUNED_PEER, "wall_seconds", 3),
                Goal(TUNED_PEER, "test_loss_nats", 0),
            ],
        )


@contextmanager
def at_equal_tokens(checkout: Path, text: Path, *, threads: int) -> Iterator[Benchmark]:
    """What nanoGPT's 1.5 million tokens are worth to ours, and to the model that transformers can load."""
    longer = ["experiment=shakespeare_fast", f"data.path={text.resolve()}", "trainer.max_steps=2000", *GENTLER]
    exportable = [*longer, "model=transformer"]
    with nanogpt.folder(checkout, text) as inside:
        yield Benchmark(
            counts=COUNTS,
            sides={
                OURS: lambda seed: ours.train(longer, seed=seed, threads=threads),
                EXPORTABLE: lambda seed: ours.train(exportable, seed=seed, threads=threads),
                PEER: lambda seed: nanogpt.train(inside, {}, seed=seed, threads=threads),
            },
            goals=[
                Goal(PEER, "test_loss_nats", 0.25),
                Goal(PEER, "test_loss_nats", 0.15, ours=EXPORTABLE),
            ],
        )


@contextmanager
def in_memory(checkout: Path, text: Path, *, threads: int) -> Iterator[Benchmark]:
    """The most memory of a few steps of nanoGPT's model: small, where imports are most of it, and larger."""
    halves = ["data.val_fraction=0.05", "data.test_fraction=0.05"]
    few = ["experiment=nanogpt_shakespeare_char", f"data.path={text.resolve()}", "trainer.max_steps=5", *halves]
    their_few = {"max_iters": 5, "eval_interval": 5, "eval_iters": 1}
    larger = ["model.num_layers=6", "model.num_heads=6", "model.hidden_size=384", "data.context_length=256"]
    their_larger = {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "batch_size": 48}
    sizes = {
        "at_1_million_bytes": (["data.evaluation_batch_size=12"], {}),
        "at_11_million_bytes": ([*larger, "data.batch_size=48", "data.evaluation_batch_size=48"], their_larger),
    }

    def ours_at_all(seed: int) -> Quantities:
        found = {name: ours.train([*few, *size], seed=seed, threads=threads) for name, (size, _) in sizes.items()}
        return {name: quantities["peak_bytes"] for name, quantities in found.items()}

    with nanogpt.folder(checkout, text) as inside:

        def theirs_at_all(seed: int) -> Quantities:
            found = {
                name: nanogpt.train(inside, {**their_few, **size}, seed=seed, threads=threads)
                for name, (_, size) in sizes.items()
            }
            return {name: quantities["peak_bytes"] for name, quantities in found.items()}

        yield Benchmark(
            counts="whole processes: 5 steps of the same model on both sides, evaluation, a checkpoint",
            sides={OURS: ours_at_all, PEER: theirs_at_all, AGAIN: ours_at_all},
            rounds=1,
            goals=[Goal(PEER, name, 1 / 1.2) for name in sizes],
        )
