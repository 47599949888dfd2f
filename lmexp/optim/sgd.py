"""Stochastic gradient descent as torch has it."""

from torch import nn
from torch.optim import SGD

from lmexp.config.optimizer import SGDConfig
from lmexp.optim.groups import decay_groups


def build_sgd(config: SGDConfig, *, model: nn.Module) -> SGD:
    """Return SGD with momentum over a model."""
    return SGD(decay_groups(model, config.weight_decay), lr=config.learning_rate, momentum=config.momentum)
