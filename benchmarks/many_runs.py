"""How long do `lmexp runs`, `compare` and `report` take over many runs?

    python -m benchmarks.many_runs RUN [--runs 10000] [--report-runs 500] [--rounds 3] [--json FILE]

Copies a real run (config.yaml, run.json) with other seeds, learning rates and numbers, and for the report gives each
copy a curve of 1,000 points. Every time is that of a whole command in a new process, imports included; the best of the
rounds is what the command takes, the rest is the machine.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

POINTS = 1000
GROUPS = 4
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--report-runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        copy_run(options.run, many, options.runs, points=0)
        copy_run(options.run, few, options.report_runs, points=POINTS)
        os.sync()  # else the commands wait for the disk to take in what was just made
        result["first index, seconds"] = seconds("runs", "--outputs", str(many))
        for name in ("compare", "runs"):
            times = [seconds(name, "--outputs", str(many)) for _ in range(options.rounds)]
            result[f"warm {name}, seconds"] = min(times)
        page = Path(folder) / "report.html"
        result["report, seconds"] = seconds("report", "--outputs", str(few), "--out", str(page))
        result["report, MB"] = page.stat().st_size / 1e6
    for name, value in result.items():
        print(f"{name:24} {value:6.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


def copy_run(source: Path, outputs: Path, count: int, *, points: int) -> None:
    """Write so many run folders like one, in groups that differ in the learning rate."""
    record = json.loads((source / "run.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
    generator = random.Random(0)
    for number in range(count):
        run = outputs / "project" / f"run-{number:05d}"
        run.mkdir(parents=True)
        group, seed = number % GROUPS, number // GROUPS
        config |= {"seed": seed, "optimizer": config["optimizer"] | {"learning_rate": (group + 1) / 1000}}
        bits = 2.0 - 0.02 * group + generator.gauss(0, 0.01)
        metrics = {"val/bits_per_byte": bits, "val/loss_nats": 2 * bits, "val/perplexity": math.exp(2 * bits)}
        mine = record | {"id": f"{number:08x}", "seed": seed, "status": "done", "metrics": metrics, "sweeps": []}
        (run / "run.json").write_text(json.dumps(mine), encoding="utf-8")
        (run / "config.yaml").write_text(yaml.dump(config, Dumper=DUMPER, sort_keys=False), encoding="utf-8")
        if points:
            (run / "metrics.jsonl").write_text("".join(_curve(bits, points, generator)), encoding="utf-8")


def seconds(*arguments: str) -> float:
    """Return how long a command takes, from the start of its process to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lmexp", *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def _curve(bits: float, points: int, generator: random.Random) -> list[str]:
    lines = []
    for step in range(1, points + 1):
        here = bits + 2 / math.sqrt(step)
        row = {"step": step, "tokens": 1000 * step, "train/loss_nats": 2 * here + generator.gauss(0, 0.02)}
        row |= {"train/tokens_per_second": 1e4, "train/learning_rate": 1e-3, "train/gradient_norm": 0.3}
        if step % 50 == 0:
            row |= {"val/bits_per_byte": here, "val/loss_nats": 2 * here}
        lines.append(json.dumps(row) + "\n")
    return lines


if __name__ == "__main__":
    main()
