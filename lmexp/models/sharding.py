"""A model in parts, one on each device (torch's fully_shard), and whole tensors from parts and back.

Blocks are gathered one at a time, when they are needed; what is left (embeddings, norm, head) stays gathered from the
forward pass to the backward pass, for the head is called on its own.
Source: Rajbhandari et al. 2020 (ZeRO), stage 3.
"""

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lmexp.models.layers import ResidualBlock


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Keep of each weight the part that belongs to this device, from now on."""
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def whole(value: Any) -> Any:
    """Return a tensor of which each device has a part as a whole on the CPU, in nested dictionaries and lists too.

    All devices must call it.
    """
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


def part_like(like: Tensor, tensor: Tensor) -> Tensor:
    """Return the part of a whole tensor that belongs to this device, where `like` is one in parts of its shape."""
    if not isinstance(like, DTensor) or like.shape != tensor.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
