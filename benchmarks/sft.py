"""Fine-tuning SmolLM2-135M on Alpaca's conversations with LoRA, beside TRL's SFTTrainer: padded rows, and packed ones.

The same conversations, template, adapters, rates and schedule; rows of 512 tokens. TRL learns what follows the
question, ours the answer and the token that ends it. Every loss is taken by lmexp: TRL's model is merged, saved and
measured on the same held-out answers. What is learned a second counts the time of training steps alone.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, Benchmark, Goal, Quantities
from benchmarks.process import python
from lmexp.config.chat import ChatConfig
from lmexp.data.chat import Chat

PADDED, PACKED = "TRL, padded", "TRL, packed"
CONTEXT, ROWS, PADDED_ROWS = 512, 4, 10
"""So many conversations are in four packed rows."""
SPLIT = {"val_fraction": 0.098, "test_fraction": 0.0}
LEARNING_RATE, RANK = 3e-4, 8
STEPS_OF_SPEED = 12


@contextmanager
def of_an_epoch(smollm2: Path, alpaca: Path, *, threads: int) -> Iterator[Benchmark]:
    """One epoch, and the loss on held-out answers after it."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(alpaca, Path(folder))
        yield Benchmark(
            counts="training steps; losses on the held-out conversations, by lmexp on both sides",
            sides={
                OURS: lambda seed: train(smollm2, alpaca, steps=None, seed=seed, threads=threads),
                PACKED: lambda seed: theirs(smollm2, Path(folder), alpaca, packed=True, seed=seed, threads=threads),
            },
            rounds=1,
            goals=[Goal(PACKED, "val_loss_nats", -0.01)],
        )


@contextmanager
def of_some_steps(smollm2: Path, alpaca: Path, *, threads: int) -> Iterator[Benchmark]:
    """How much is learned a second."""
    with tempfile.TemporaryDirectory() as folder:
        rows, steps = write_rows(alpaca, Path(folder)), STEPS_OF_SPEED
        yield Benchmark(
            counts="training steps alone: no imports, no evaluation",
            sides={
                OURS: lambda seed: train(smollm2, alpaca, steps=steps, seed=seed, threads=threads),
                PADDED: lambda seed: theirs(
                    smollm2, rows, alpaca, packed=False, steps=steps, seed=seed, threads=threads
                ),
                PACKED: lambda seed: theirs(
                    smollm2, rows, alpaca, packed=True, steps=steps, seed=seed, threads=threads
                ),
            },
            rounds=3,
            goals=[Goal(PADDED, "seconds_a_learned_token", 1.3), Goal(PACKED, "seconds_a_learned_token", 1.0)],
        )


def recipe(smollm2: Path, alpaca: Path) -> list[str]:
    """Return what `lmexp train` is given."""
    return [
        *("experiment=sft", "model=hf", f"model.name_or_path={smollm2}", "tokenizer=hf", f"data.path={alpaca}"),
        *(f"data.{key}={value}" for key, value in SPLIT.items()),
        *(f"data.context_length={CONTEXT}", f"data.batch_size={ROWS}", f"model.lora.rank={RANK}"),
        *("model.lora.alpha=16", f"optimizer.learning_rate={LEARNING_RATE}", "trainer.max_epochs=1"),
        *("trainer.validate_every_steps=null", "callbacks.samples.prompts=[]", "logger=none"),
    ]


def train(smollm2: Path, alpaca: Path, *, steps: int | None, seed: int, threads: int) -> Quantities:
    """Return what a run of ours takes."""
    with tempfile.TemporaryDirectory() as folder:
        options = [*recipe(smollm2.resolve(), alpaca.resolve()), f"seed={seed}", "trainer.progress_bar=false"]
        if steps is not None:
            options += ["trainer.max_epochs=null", f"trainer.max_steps={steps}"]
        python(["-m", "lmexp", "train", *options], folder, threads=threads)
        (path,) = Path(folder).rglob("run.json")
        record = json.loads(path.read_text())
        rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    learned = record["step"] * ROWS * CONTEXT * record["examples"]["train"]["learned_share"]
    before = next(row["val/loss_nats"] for row in rows if row["step"] == 0)
    return {
        "seconds_a_learned_token": record["seconds_trained"] / learned,
        "val_loss_nats": record["metrics"]["val/loss_nats"],
        "share_of_base_loss": record["metrics"]["val/loss_nats"] / before,
    }


def write_rows(alpaca: Path, folder: Path) -> Path:
    """Write the training conversations as TRL takes them, and return the folder."""
    source = Chat(ChatConfig(path=str(alpaca), **SPLIT))  # type: ignore[arg-type]
    lines = []
    for _, conversation in source.conversations("train"):
        said = [{"role": message.role.name, "content": message.content} for message in conversation.messages]
        lines.append(json.dumps({"prompt": said[:-1], "completion": said[-1:]}))
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def theirs(
    smollm2: Path,
    rows: Path,
    alpaca: Path,
    *,
    packed: bool,
    seed: int,
    threads: int,
    steps: int | None = None,
) -> Quantities:
    """Return what a run of TRL takes; after a whole epoch the loss of its model, too."""
    with tempfile.TemporaryDirectory() as folder:
        given = [str(smollm2.resolve()), str(rows / "train.jsonl"), str(int(packed)), str(seed), str(steps or 0)]
        finished = python(["-m", "benchmarks.sft", *given], folder, threads=threads)
        found: Quantities = json.loads(finished.output.splitlines()[-1])
        if steps is None:
            merged = Path(folder) / "merged"
            options = [*recipe(merged, alpaca.resolve()), "trainer.max_epochs=null", "trainer.max_steps=1"]
            python(["-m", "lmexp", "train", *options, "trainer.progress_bar=false"], folder, threads=threads)
            (path,) = Path(folder).rglob("metrics.jsonl")
            measured = [json.loads(line) for line in path.read_text().splitlines()]
            found["val_loss_nats"] = next(row["val/loss_nats"] for row in measured if row["step"] == 0)
    return found


def main(smollm2: str, rows: str, packed: bool, seed: int, steps: int) -> None:
    """Train with TRL as its users do, in this process, and print what it took."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype="float32")
    options: dict[str, Any] = {
        "output_dir": "out",
        "per_device_train_batch_size": ROWS if packed else PADDED_ROWS,
        "max_length": CONTEXT,
        "packing": packed,
        "completion_only_loss": True,
        "num_train_epochs": 1,
        "max_steps": steps or -1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.02,
        "adam_beta2": 0.99,
        "weight_decay": 0.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
    }
    trainer = SFTTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(smollm2),
        args=SFTConfig(**options),
        train_dataset=load_dataset("json", data_files=rows, split="train"),
        peft_config=LoraConfig(r=RANK, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear"),
    )
    learned, collate = 0, trainer.data_collator

    def counted(examples: Any) -> Any:
        nonlocal learned
        batch = collate(examples)
        learned += int((batch["labels"] != -100).sum())
        return batch

    trainer.data_collator = counted
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    if not steps:
        merged: Any = trainer.model
        merged.merge_and_unload().save_pretrained("merged")
        AutoTokenizer.from_pretrained(smollm2).save_pretrained("merged")
    print(json.dumps({"seconds_a_learned_token": seconds / learned}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], bool(int(sys.argv[3])), int(sys.argv[4]), int(sys.argv[5]))
