"""A run of model=hf put together again as the transformers model that it was taken apart from."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lmexp.errors import DataError
from lmexp.models.adapters import merge
from lmexp.models.pretrained import Pretrained
from lmexp.models.pretrained_files import from_architecture

PARTS = ("base.", "encoder.", "head.model.")


def whole_model(model: Pretrained) -> Any:
    """Return the transformers model with the weights of a run, adapters merged.

    Raises:
        DataError: its parts do not make up the whole.
    """
    whole = from_architecture(model.config.head, model.architecture)
    if hasattr(whole, "pooler"):
        whole.pooler = None  # it was not taken over
    weights = merge(model)
    missing = set(whole.state_dict())
    for part in PARTS:
        own = {name.removeprefix(part): tensor for name, tensor in weights.items() if name.startswith(part)}
        if own:
            path = "" if part == "head.model." else _place(whole, own)
            missing -= {f"{path}{name}" for name in own}
            whole.load_state_dict({f"{path}{name}": tensor for name, tensor in own.items()}, strict=False)
    if missing:
        raise DataError(f"{model.name} cannot be put together again: {sorted(missing)[0]} is not among its weights")
    return whole.eval()


def _place(whole: Any, weights: Mapping[str, Tensor]) -> str:
    """Return what the names of a part begin with in the whole."""
    for path, module in whole.named_modules():
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if shapes.keys() == weights.keys() and all(weights[name].shape == shape for name, shape in shapes.items()):
            return f"{path}." if path else ""
    raise DataError(f"a {whole.config.model_type} has no part with the weights of this run")
