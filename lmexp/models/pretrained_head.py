"""The output of a pretrained model as a head: all that the model itself does with hidden states.

What is left of a model when its layers are taken out, with a stand-in that hands hidden states through in their place.
So scales, caps and transforms of any architecture are those of transformers, and none is written again here.
Shapes: B rows, T tokens, C hidden size, V vocabulary, N tokens in one row.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import Loss
from lmexp.models.heads import Head


class WholeHead(Head):
    """All that a pretrained model does with hidden states; `is_linear` where that is one matrix and a bias."""

    def __init__(self, model: Any, output: nn.Module, *, is_decoder: bool, loss: Loss) -> None:
        super(Head, self).__init__()
        self.model, self.loss = model, loss
        self.prefix = "decoder_" if is_decoder else ""
        self.is_linear = False
        self._output = next(name for name, module in model.named_modules() if module is output)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix of the output layer."""
        return self.model.get_submodule(self._output).weight

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """Its bias, where it has one."""
        return getattr(self.model.get_submodule(self._output), "bias", None)

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        if self.is_linear:
            return super().logits(hidden_BTC)
        width = hidden_BTC.shape[-1]
        hidden_1NC = hidden_BTC.reshape(1, hidden_BTC.numel() // width, width)
        inputs: dict[str, Any] = {f"{self.prefix}inputs_embeds": hidden_1NC}
        if self.prefix:
            inputs["encoder_outputs"] = (hidden_1NC,)
        logits_1NV = self.model(**inputs, use_cache=False).logits
        return logits_1NV.view(*hidden_BTC.shape[:-1], logits_1NV.shape[-1])

    def start_at_frequencies(self, counts_V: Tensor) -> None:
        """Leave the bias as it is: it has learned something already."""

    def equals_linear(self, hidden_BTC: Tensor, logits_BTV: Tensor) -> bool:
        """Return whether a matrix and a bias give these logits."""
        if self.weight.shape[1] != hidden_BTC.shape[-1]:
            return False
        linear = F.linear(hidden_BTC, self.weight, self.bias)
        return linear.shape == logits_BTV.shape and torch.allclose(linear, logits_BTV, rtol=1e-5, atol=1e-5)

    def _in_chunks(self, targets_BT: Tensor) -> bool:
        return self.is_linear and super()._in_chunks(targets_BT)


class Labels(Head):
    """In place of a head: a classifier scores labels, not tokens."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.weight.requires_grad_(False)


class _Through(nn.Module):
    """Stands where the layers of a model were and hands their hidden states through."""

    def forward(self, *_: Any, inputs_embeds: Tensor | None = None, **__: Any) -> "_Output":
        return _Output((inputs_embeds,))


class _Output(tuple):
    """Hidden states alone, as the output of any kind of model."""

    __slots__ = ()

    @property
    def last_hidden_state(self) -> Tensor:
        return self[0]

    def __getattr__(self, name: str) -> None:
        return None


def take_out(whole: Any, part: nn.Module) -> nn.Module:
    """Return a part of a model, which from now on has a stand-in in its place."""
    name = next(name for name, module in whole.named_modules() if module is part)
    whole.set_submodule(name, _Through())
    return part


def embedding_head(whole: Any, loss: Loss) -> Head:
    """Return a head that scores tokens with their embeddings."""
    weight = whole.get_input_embeddings().weight
    if weight.shape[1] != whole.config.hidden_size:
        raise ValueError(f"its embeddings are {weight.shape[1]} wide and its hidden states {whole.config.hidden_size}")
    head = Head(0, 0, loss=loss)
    head.weight = weight
    return head
