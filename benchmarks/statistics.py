"""Are the statements of `lmexp compare` right as often as they say?

    python -m benchmarks.statistics [--runs OUTPUTS] [--seeds 60] [--splits 1000] [--json FILE]

False alarms: runs of one tiny config that differ in their seed only (trained here, or found in OUTPUTS) are dealt into
5 and 5 at random, again and again; every verdict "better" or "worse" is a false one. Power: the same deals, with 2.5
standard deviations taken off one side. Coverage: how often the 95 % interval of simulated groups holds the true mean.
The verdicts are those of `lmexp.runs.compare`, over run folders.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

import lmexp
from lmexp.runs.groups import Group
from lmexp.runs.metrics import Direction
from lmexp.runs.statistics import spread
from lmexp.runs.verdicts import differences

METRIC = "val/bits_per_byte"
SIDE = 5
EFFECT = 2.5
CONFIG = [
    *("model=lstm_tiny", "tokenizer=bytes", "data.batch_size=16", "data.context_length=32", "data.limit_batches=4"),
    *("trainer.max_steps=40", "trainer.checkpoint_every_steps=null", "trainer.validate_every_steps=null"),
    *("callbacks.samples.prompts=[]", "logger=none", "trainer.progress_bar=false", "name=seed"),
]


def main() -> None:
    """Print the three figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", help="folder of runs that are there already")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.runs:
        group = _group(options.runs)
    else:
        with tempfile.TemporaryDirectory() as outputs:
            train_seeds(options.seeds, outputs)
            group = _group(outputs)
    print(f"{group.n} runs, mean {group.mean:.4f}, standard deviation {group.sd:.4f} of {METRIC}")
    alarms, found = verdicts(group, options.splits, 0.0), verdicts(group, options.splits, EFFECT * (group.sd or 0))
    result = {
        "runs": group.n,
        "splits": options.splits,
        "false_alarms": (alarms["better"] + alarms["worse"]) / options.splits,
        "power": found["better"] / options.splits,
        "coverage": {str(n): coverage(n, 1000) for n in (5, 10)},
    }
    print(f"false alarms, {SIDE} against {SIDE}, {options.splits} deals: {result['false_alarms']:.1%} (goal 3 to 7 %)")
    print(f"power at {EFFECT} standard deviations: {result['power']:.1%} (goal at least 85 %)")
    for n, share in result["coverage"].items():
        print(f"coverage of the 95 % interval, 1,000 groups of {n}: {share:.1%} (goal 93 to 97 %)")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


def train_seeds(count: int, outputs: str) -> None:
    """Train one tiny config with so many seeds."""
    for seed in range(count):
        lmexp.train(lmexp.compose("train", [*CONFIG, f"seed={seed}", f"output_dir={json.dumps(outputs)}"]))


def verdicts(group: Group, splits: int, effect: float) -> Counter[str]:
    """Return how often each verdict was given on random deals of a group's runs, one side made better by `effect`."""
    generator = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(splits):
        chosen = generator.sample(group.scores, 2 * SIDE)
        improved = [replace(score, value=score.value - effect) for score in chosen[:SIDE]]
        sides = [replace(group, id=name, scores=scores) for name, scores in (("B", improved), ("A", chosen[SIDE:]))]
        [difference] = differences(sides[:1], sides[1], Direction.lower, "")
        counts[difference.verdict] += 1
    return counts


def coverage(n: int, groups: int) -> float:
    """Return how many of the intervals of normal samples hold the true mean."""
    samples = np.random.default_rng(0).normal(size=(groups, n))
    intervals = [spread(list(sample)) for sample in samples]
    return sum(interval.low <= 0 <= interval.high for interval in intervals if interval.low is not None) / groups  # type: ignore[operator]


def _group(outputs: str) -> Group:
    return lmexp.compare(metric=METRIC, outputs=outputs).groups[0]


if __name__ == "__main__":
    main()
