"""Lightning's strategy for models in parts, with our checkpoints: the files of a run are those of one device.

So a run that was trained sharded is loaded, evaluated and gone on with on any number of devices.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.optim import Optimizer

from lmexp.models.sharding import part_like, whole


class Sharded(ModelParallelStrategy):
    """Weights, gradients and optimizer state in parts on all devices; checkpoints whole, written by the first."""

    lightning_restore_optimizer = True

    def __init__(self, devices: int, *, backend: str, timeout: timedelta) -> None:
        super().__init__(devices, 1, save_distributed_checkpoint=False, process_group_backend=backend, timeout=timeout)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return whole(optimizer.state_dict())

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(Path(checkpoint_path), weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        with torch.no_grad():
            for name, tensor in checkpoint["state_dict"].items():
                own[name].copy_(part_like(own[name], tensor))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            parts = {
                number: {key: part_like(weight, value) for key, value in state["state"][number].items()}
                for weight, number in zip(weights, numbers, strict=True)
                if number in state["state"]
            }
            optimizer.load_state_dict({**state, "state": parts})
