"""AdamW as torch has it, in its fused form."""

from torch import nn
from torch.optim import AdamW

from lmexp.config.optimizer import AdamWConfig
from lmexp.optim.groups import decay_groups


def build_adamw(config: AdamWConfig, *, model: nn.Module) -> AdamW:
    """Return AdamW over a model.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    """
    return AdamW(
        decay_groups(model, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
