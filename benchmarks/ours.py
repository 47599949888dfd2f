"""A run of lmexp as a side: a whole process of `lmexp train`, what it took, and its test loss."""

import json
import tempfile
from pathlib import Path

from benchmarks.measure import Quantities
from benchmarks.process import python

QUIET = ["logger=none", "callbacks.samples.prompts=[]", "trainer.progress_bar=false"]
"""What the peers do not do either."""


def train(overrides: list[str], *, seed: int, threads: int) -> Quantities:
    """Return what a run takes: imports, preparing the text, training, evaluating val and test, checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        finished = python(["-m", "lmexp", "train", *overrides, *QUIET, f"seed={seed}"], folder, threads=threads)
        (path,) = Path(folder).glob("outputs/*/*/run.json")
        record = json.loads(path.read_text())
    return {
        "tokens": record["tokens"],
        "wall_seconds": finished.wall_seconds,
        "peak_bytes": finished.peak_bytes,
        "val_loss_nats": record["metrics"]["val/loss_nats"],
        "test_loss_nats": record["metrics"]["test/loss_nats"],
    }
