"""The rows of docs/recipe.md: a recipe beside itself with one choice changed, over seeds.

    python -m benchmarks.recipe --shakespeare FILE [--seeds 5] [--processes 2] [NAME ...]

Losses are those of val, the first half of nanoGPT's validation split, on which recipes are chosen; the interval is that
of the difference of two means (Welch), as `lmexp compare` gives it. One thread a process, so losses are exact and
nothing is timed.
"""

import argparse
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import ours
from lmexp.runs.statistics import welch

SHAKESPEARE = ["experiment=shakespeare_fast"]
SAME_WITH_ADAMW = [
    *("data=text", "data.batch_size=12", "data.context_length=64", "data.end_of_document=false"),
    *("tokenizer=characters", "tokenizer.byte_fallback=false", "tokenizer.end_of_document=false"),
    *("model=transformer_fast", "schedule=linear", "schedule.warmup_fraction=null"),
    *("optimizer=adamw", "optimizer.beta1=0.6", "optimizer.beta2=0.95", "optimizer.weight_decay=0"),
    *("trainer.max_steps=130", "trainer.validate_every_steps=null", "trainer.gradient_clip_norm=null"),
]
"""The recipe without its file, which sets keys that only Muon has."""
VARIANTS: dict[str, list[str]] = {
    "keys and values see 1 token back instead of 2": ["model.shift_taps=1"],
    "no token shift": ["model.shift_taps=0"],
    "no QK-norm": ["model.qk_norm=false"],
    "SwiGLU instead of ReLU^2": ["model.mlp=swiglu"],
    "output projections not at zero": ["model.zero_init=false"],
    "tied embeddings": ["model.tie_embeddings=true"],
    "Muon's usual momentum, 0.95, and AdamW's usual beta1, 0.9": ["optimizer.momentum=0.95", "optimizer.beta1=0.9"],
    "cosine instead of linear": ["schedule=cosine", "schedule.warmup_fraction=null"],
    "batches of 24, half the steps": ["data.batch_size=24", "trainer.max_steps=65"],
    "Newton-Schulz in float32": ["optimizer.newton_schulz_bf16=false"],
    "model=transformer, which transformers can load": ["model=transformer"],
}
ADAMW_RATES = ("3e-3", "1e-2", "2e-2")


def losses(overrides: list[str], *, seeds: int, processes: int) -> list[float]:
    """Return the loss of val, seed by seed."""
    with ThreadPoolExecutor(processes) as pool:
        runs = pool.map(lambda seed: ours.train(overrides, seed=seed, threads=1), range(seeds))
        return [run["val_loss_nats"] for run in runs]


def main() -> None:
    """Train everything and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of the names of choices; all without")
    parser.add_argument("--shakespeare", type=Path, required=True, help="tiny Shakespeare as one text file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2)))
    options = parser.parse_args()
    text = f"data.path={options.shakespeare.resolve()}"
    how = {"seeds": options.seeds, "processes": options.processes}
    variants = {name: [*SHAKESPEARE, *overrides] for name, overrides in VARIANTS.items()}
    variants |= {
        f"AdamW alone, rate {rate}": [*SAME_WITH_ADAMW, f"optimizer.learning_rate={rate}"] for rate in ADAMW_RATES
    }
    base = losses([*SHAKESPEARE, text], **how)
    print("| choice | val loss, nats | against the recipe [95 %] |\n|---|---:|---:|")
    print(f"| the recipe | {statistics.mean(base):.4f} | |", flush=True)
    for name, overrides in variants.items():
        if options.names and not any(part in name for part in options.names):
            continue
        found = losses([*overrides, text], **how)
        shift = welch(found, base)
        interval = f"{shift.value:+.4f} [{shift.low:+.4f}, {shift.high:+.4f}]"
        print(f"| {name} | {statistics.mean(found):.4f} | {interval} |", flush=True)


if __name__ == "__main__":
    main()
