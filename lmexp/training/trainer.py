"""Lightning's Trainer, set up so that a run is a function of its config."""

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies import Strategy as LightningStrategy

from lmexp.checkpoints import FolderCheckpointIO
from lmexp.config.trainer import Accelerator, Profiler, Strategy, TrainerConfig, count_gpus

PROFILERS = {Profiler.simple: SimpleProfiler, Profiler.advanced: AdvancedProfiler, Profiler.pytorch: PyTorchProfiler}

EXPECTED_WARNINGS = (
    ".*does not have many workers.*",  # rows are gathered from memory in a tenth of a millisecond
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*The `srun` command is available.*",
    ".*exists and is not empty.*",
    ".*barebones.*",
    ".*GPU available but not used.*",
    ".*your dataloader is not resumable.*",  # it starts at the task's own counter
    ".*torch.distributed.nn.functional.all_gather is deprecated.*",  # Lightning's own call
    ".*recommended to use .self.log.*sync_dist=True.*",  # our metrics are reduced before they are logged
    ".*grad attribute of a Tensor that is not a leaf.*",  # torch.compile's own look at what the loss is given
    ".*WeightAveraging callback with a model that overrides.*",  # a moving average is refused with fsdp
)


def build_trainer(
    config: TrainerConfig,
    *,
    folder: Path,
    max_steps: int,
    steps_per_stretch: int,
    callbacks: list[Callback],
    loggers: list[Logger],
    checkpoint_io: FolderCheckpointIO,
) -> Trainer:
    """Return a Trainer for one run folder."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    devices = config.devices or count_gpus()
    validate_every = config.validate_every_steps or max_steps + 1
    options: dict[str, Any] = {
        "accelerator": config.accelerator.name,
        "devices": devices,
        "strategy": _strategy(config, devices),
        "precision": "32-true" if config.precision == "32" else config.precision,
        "max_steps": max_steps,
        "max_epochs": -1,
        "check_val_every_n_epoch": None,
        "val_check_interval": -(-validate_every // steps_per_stretch),
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,  # counts stretches; nothing is logged through Lightning
        "deterministic": config.deterministic,
        "profiler": PROFILERS[config.profiler](str(folder), "profile") if config.profiler else None,
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [checkpoint_io],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    return Trainer(**(options | config.extra))


def _strategy(config: TrainerConfig, devices: int) -> LightningStrategy | str:
    backend = "nccl" if config.accelerator is Accelerator.gpu else "gloo"
    timeout = timedelta(seconds=config.distributed_timeout_seconds)
    if config.strategy is Strategy.fsdp:
        from lmexp.training.sharding import Sharded  # some tenths of a second to import

        return Sharded(devices, backend=backend, timeout=timeout)
    return DDPStrategy(process_group_backend=backend, timeout=timeout) if devices > 1 else "auto"
