"""Muon for matrices and AdamW for the rest, as one optimizer, so that Lightning sees one step and one state.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Matrices of the same shape are
stacked and made orthogonal together, and those that one layer holds side by side each on its own. The quintic
Newton-Schulz iteration runs in bfloat16 on a GPU and in float32 on a CPU unless asked for otherwise: without bfloat16
instructions, which many lack, it was 20 times as slow there, and with them twice as fast.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lmexp.config.optimizer import MuonConfig
from lmexp.models.state import LanguageModel
from lmexp.optim.groups import split_parameters, stacked_parts

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def build_muon(config: MuonConfig, *, model: LanguageModel) -> "Muon":
    """Return Muon over the matrices inside a model and AdamW over the rest, an untied head included."""
    matrices, rest = split_parameters(model)
    head = [weight for weight in matrices if any(weight is p for p in model.head.parameters())]
    matrices, rest = [weight for weight in matrices if not any(weight is h for h in head)], rest + head
    parts = stacked_parts(model)
    return Muon(
        matrices,
        rest,
        parts=[parts.get(id(weight), 1) for weight in matrices],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        newton_schulz_steps=config.newton_schulz_steps,
        newton_schulz_bf16=config.newton_schulz_bf16,
        adamw_lr=config.adamw_learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
    )


class Muon(Optimizer):
    """Group 0: matrices, by Muon. Group 1: the rest, by torch's AdamW."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        rest: list[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        newton_schulz_steps: int,
        newton_schulz_bf16: bool | None = None,
        adamw_lr: float,
        betas: tuple[float, float],
        eps: float,
        parts: list[int] | None = None,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {
                "params": matrices,
                "parts": parts or [1] * len(matrices),
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "newton_schulz_steps": newton_schulz_steps,
                "newton_schulz_bf16": newton_schulz_bf16,
            },
            {"params": rest, "lr": adamw_lr, "fused": True},
        ]
        super().__init__([group for group in groups if group["params"]], {})
        self._adamw = AdamW(rest, lr=adamw_lr, betas=betas, eps=eps, weight_decay=0.0, fused=True) if rest else None
        self._share_state_of_adamw()
        self._make_state(matrices, rest)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all weights once, and return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "momentum" in group:
                self._move_matrices(group)
        if self._adamw is not None:
            self._adamw.param_groups[0]["lr"] = self.param_groups[-1]["lr"]
            self._adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share_state_of_adamw()

    def _share_state_of_adamw(self) -> None:
        """Keep one state for both, so that state_dict() holds AdamW's moments too."""
        if self._adamw is not None:
            self._adamw.state = self.state

    def _make_state(self, matrices: list[nn.Parameter], rest: list[nn.Parameter]) -> None:
        """Make all state now: between the tensors of a first step it would split malloc's heap for good."""
        for weight in matrices:
            self.state[weight] = {"momentum": torch.zeros_like(weight)}
        for weight in rest:
            step = torch.zeros((), dtype=torch.float32, device=weight.device)
            self.state[weight] = {
                "step": step,
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    def _move_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, int]]] = {}
        for parameter, parts in zip(group["params"], group["parts"], strict=True):
            if parameter.grad is not None:
                shape = (len(parameter) // parts, *parameter.shape[1:])
                by_shape.setdefault(shape, []).append((parameter, parts))
        for pairs in by_shape.values():
            updates_NRC = torch.cat([self._update(parameter, parts, group["momentum"]) for parameter, parts in pairs])
            orthogonal_NRC = orthogonalize(
                updates_NRC, group["newton_schulz_steps"], in_bf16=group["newton_schulz_bf16"]
            )
            rows, columns = orthogonal_NRC.shape[-2:]
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            moves = orthogonal_NRC.split([parts for _, parts in pairs])
            for (parameter, _), move in zip(pairs, moves, strict=True):
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(move.reshape(parameter.shape), alpha=scale)

    def _update(self, parameter: nn.Parameter, parts: int, momentum: float) -> Tensor:
        """Add a gradient to its running mean and return Nesterov's mix of both, cut into its matrices.

        Shape: (parts, R, C).
        """
        gradient = parameter.grad
        assert gradient is not None
        mean = self.state[parameter]["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum).flatten(1).unflatten(0, (parts, -1))


def orthogonalize(matrices_NRC: Tensor, steps: int, *, in_bf16: bool | None = None) -> Tensor:
    """Return matrices with about the same singular vectors and all singular values near 1.

    Shape: (N, R, C) -> (N, R, C).
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices_NRC.shape[-2] > matrices_NRC.shape[-1]
    x = matrices_NRC.mT if is_tall else matrices_NRC
    x = x.bfloat16() if (x.is_cuda if in_bf16 is None else in_bf16) else x.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if is_tall else x).to(matrices_NRC.dtype)
