"""A small model with everything an optimizer must tell apart, and steps with gradients that are drawn.

Drawn, not computed: some true gradients are 0 but for rounding (that of a key's bias), which Adam divides by itself.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from lmexp.config.model import GPT2Config, LSTMConfig, ModelConfig
from lmexp.config.schema import build
from lmexp.models.state import LanguageModel

TIED = GPT2Config(num_layers=2, hidden_size=16, bias=True)
UNTIED = GPT2Config(num_layers=2, hidden_size=16, bias=True, tie_embeddings=False)
RECURRENT = LSTMConfig(num_layers=2, hidden_size=16, embedding_size=8)


def new_model(config: ModelConfig = UNTIED) -> LanguageModel:
    torch.manual_seed(0)
    return build(config, vocab_size=19, context_length=8)


def train(
    model: LanguageModel, optimizer: Optimizer, steps: range, after_step: Callable[[], None] = lambda: None
) -> None:
    """Take steps, each with gradients that depend on its number."""
    for step in steps:
        random = torch.Generator().manual_seed(step)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=random) if weight.requires_grad else None
        optimizer.step()
        after_step()


def weights_of(model: LanguageModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_equal_weights(model: LanguageModel, other: LanguageModel, *, exactly: bool = False) -> None:
    tolerance = 0.0 if exactly else 1e-5
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(
            one, two, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
