"""Which weights are decayed, and which Muon moves."""

from torch import nn

from lmexp.models.layers import StackedLinear


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (matrices, the rest) of what is trained.

    Matrices multiply hidden states; embeddings, norms and biases are the rest.
    """
    lookups = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and id(parameter) not in lookups
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return the parameter groups of an optimizer: matrices are decayed, the rest is not."""
    matrices, rest = split_parameters(model)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def stacked_parts(model: nn.Module) -> dict[int, int]:
    """Return by the id of a weight how many matrices it holds side by side, where these are several."""
    return {id(module.weight): module.parts for module in model.modules() if isinstance(module, StackedLinear)}
