"""transformers' Trainer as a peer: GPT-2's model of 4 layers, width 128, on the tokens of a corpus of ours.

python -m benchmarks.hf_trainer CORPUS_FOLDER STEPS LEARNING_RATE SEED     (a whole process, as the benchmark runs it)
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.losses import mean_loss
from benchmarks.measure import Quantities
from benchmarks.process import python

BATCH_SIZE, CONTEXT = 16, 128


def train(corpus: Path, *, steps: int, learning_rate: float, seed: int, threads: int) -> Quantities:
    """Return what a run of Trainer takes, as a whole process, and its loss on the test split."""
    arguments = ["-m", "benchmarks.hf_trainer", str(corpus), str(steps), str(learning_rate), str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        finished = python(arguments, folder, threads=threads)
    return {
        "tokens": steps * BATCH_SIZE * CONTEXT,
        "wall_seconds": finished.wall_seconds,
        "peak_bytes": finished.peak_bytes,
        "test_loss_nats": json.loads(finished.output.splitlines()[-1])["test"],
    }


def main(corpus: Path, steps: int, learning_rate: float, seed: int) -> None:
    """Train as a user of Trainer would, with the settings that its users change: rate, warm-up, cosine, no dropout."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

    set_seed(seed)
    manifest = json.loads((corpus / "manifest.json").read_text())
    ids = {split: np.fromfile(corpus / f"{split}.bin", dtype=np.uint16) for split in ("train", "val", "test")}
    whole = len(ids["train"]) // CONTEXT * CONTEXT
    rows = torch.from_numpy(ids["train"][:whole].astype(np.int64)).view(-1, CONTEXT)
    sizes: dict[str, Any] = {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT}
    dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    special: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=manifest["vocab_size"], use_cache=False, **sizes, **dropout, **special)
    )
    options: dict[str, Any] = {
        "output_dir": "out",
        "per_device_train_batch_size": BATCH_SIZE,
        "max_steps": steps,
        "learning_rate": learning_rate,
        "warmup_steps": steps // 20,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.1,
        "adam_beta2": 0.99,
        "save_strategy": "no",
        "logging_steps": 100,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": seed,
    }
    dataset: Any = [{"input_ids": row, "labels": row} for row in rows]
    Trainer(model=model, args=TrainingArguments(**options), train_dataset=dataset).train()
    model.eval()
    losses = {
        split: mean_loss(lambda tokens_BT: model(tokens_BT).logits, ids[split], CONTEXT) for split in ("val", "test")
    }
    print(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
