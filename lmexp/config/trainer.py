"""How long, how often, how exact and on what hardware."""

import ast
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from lmexp.config.schema import Option, setting


class Accelerator(Enum):
    """What computes."""

    cpu = "cpu"
    gpu = "gpu"
    mps = "mps"


class Strategy(Enum):
    """How several devices share the work."""

    ddp = "ddp"
    """Each holds the whole model (DistributedDataParallel)."""
    fsdp = "fsdp"
    """Each holds a part of every weight, gradient and moment (fully sharded), for models that do not fit on one."""


class Profiler(Enum):
    """Lightning's profilers."""

    simple = "simple"
    advanced = "advanced"
    pytorch = "pytorch"


@dataclass(kw_only=True)
class TrainerConfig(Option):
    """Lightning's Trainer, with the options that runs are made of under names of their own."""

    group = "trainer"
    name = "lightning"
    builds = "lmexp.training.trainer:build_trainer"

    max_steps: int = setting(800, at_least=1)
    """Optimizer steps of the whole run."""
    max_epochs: float | None = setting(None, above=0)
    """Passes over the training split; when given it takes the place of max_steps, unless a command line gives those."""
    validate_every_steps: int | None = setting(200, at_least=1)
    """Optimizer steps between validations; null validates at the end only."""
    checkpoint_every_steps: int | None = setting(200, at_least=1, identity=False)
    """Optimizer steps between checkpoints; null saves at the end only. A run that is killed loses the steps since."""
    log_every_steps: int = setting(10, at_least=1, identity=False)
    """Optimizer steps between lines of metrics; the losses of the steps between are averaged."""
    accumulate: int = setting(1, at_least=1)
    """Micro-steps whose gradients are added up for one optimizer step: a larger batch in the same memory."""
    gradient_clip_norm: float | None = setting(1.0, above=0)
    """Scale the gradient down to this norm when it is longer; null never does."""
    precision: str = setting("32", one_of=("32", "bf16-mixed"))
    """32, or bf16-mixed: matrix products in bfloat16, weights and losses in float32."""
    accelerator: Accelerator = setting(Accelerator.cpu, identity=False)
    """cpu, gpu (CUDA) or mps (Apple)."""
    devices: int | None = setting(1, at_least=1, identity=False)
    """GPUs, or processes on CPU, that share the rows of a batch; null takes every GPU."""
    strategy: Strategy = setting(Strategy.ddp, identity=False)
    """How several devices share the work. ddp: each holds the whole model. fsdp: each holds a part of every weight,
    for Transformers that do not fit on one device; with optimizer=adamw or sgd, and without samples along the way."""
    activation_checkpointing: bool = setting(False, identity=False)
    """Keep no activations inside a Transformer's blocks but compute them again in the backward pass: a third more time,
    a fraction of the memory. Changes no result."""
    compile: bool = setting(False)
    """Compile the model with torch.compile: some ten seconds to a minute at the start, faster steps after. LSTMs run as
    they are."""
    deterministic: bool = setting(False)
    """Ask torch for deterministic kernels where a GPU has faster ones that are not; CPU runs always are."""
    num_threads: int | None = setting(None, at_least=1, identity=False)
    """CPU threads of each process; null shares the cores among the processes."""
    profiler: Profiler | None = setting(None, identity=False)
    """Lightning's profiler: simple, advanced or pytorch; its report goes to the run folder."""
    progress_bar: bool = setting(True, identity=False)
    """Show progress on a terminal; elsewhere a line at each validation."""
    distributed_timeout_seconds: int = setting(120, at_least=1, identity=False)
    """How long a rank waits for the others before it gives up."""
    extra: dict[str, Any] = setting(default_factory=dict)
    """Any other option of pytorch_lightning.Trainer, checked against its signature."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.accelerator is Accelerator.gpu:
            count = count_gpus()
            if count == 0:
                yield "accelerator", "no CUDA GPU was found on this machine; train with trainer=cpu"
            elif (self.devices or 1) > count:
                yield "devices", f"{self.devices} GPUs asked for, this machine has {count}"
        elif self.devices is None:
            yield "devices", "null means every GPU; on this accelerator give a number"
        if self.accelerator is Accelerator.mps and self.devices != 1:
            yield "devices", "mps has one device"
        for key in self.extra:
            if key in SET_BY_LMEXP:
                yield f"extra.{key}", f"lmexp sets this option itself; {SET_BY_LMEXP[key]}"
            elif key not in lightning_trainer_options():
                yield f"extra.{key}", f"pytorch_lightning.Trainer has no option '{key}'"


SET_BY_LMEXP = {
    "max_steps": "use trainer.max_steps",
    "max_epochs": "use trainer.max_epochs",
    "max_time": "a run is as long as its config says, so that it can be compared",
    "accumulate_grad_batches": "use trainer.accumulate",
    "gradient_clip_val": "use trainer.gradient_clip_norm",
    "val_check_interval": "use trainer.validate_every_steps",
    "check_val_every_n_epoch": "use trainer.validate_every_steps",
    "limit_train_batches": "use data.limit_batches",
    "overfit_batches": "use data.limit_batches",
    "log_every_n_steps": "use trainer.log_every_steps",
    "precision": "use trainer.precision",
    "accelerator": "use trainer.accelerator",
    "devices": "use trainer.devices",
    "deterministic": "use trainer.deterministic",
    "profiler": "use trainer.profiler",
    "logger": "use the group logger",
    "callbacks": "use the group callbacks",
    "enable_progress_bar": "use trainer.progress_bar",
    "default_root_dir": "it is the run folder",
    "plugins": "checkpoints are lmexp's own",
    "reload_dataloaders_every_n_epochs": "batches are a function of the seed and the step",
    "use_distributed_sampler": "batches are a function of the seed and the step",
    "fast_dev_run": "use debug=fast",
    "barebones": "it would turn off checkpoints",
}


@cache
def lightning_trainer_options() -> frozenset[str]:
    """Return the argument names of pytorch_lightning.Trainer, read from its source without importing it."""
    spec = importlib.util.find_spec("pytorch_lightning")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "trainer" / "trainer.py").read_text(encoding="utf-8")
    trainer = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Trainer")
    init = next(n for n in trainer.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return frozenset(argument.arg for argument in init.args.args + init.args.kwonlyargs) - {"self"}


@cache
def count_gpus() -> int:
    """Return the number of CUDA GPUs that nvidia-smi lists, without importing torch."""
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
