"""From hidden states to logits, and to the loss without holding all of them.

Shapes: B rows, T tokens, C hidden size, V vocabulary, N = B * T.
Where the logits are large, training works through a chunk of tokens at a time: 1.3 to 2.5 times as fast as dense logits
here, and 1.6 times as fast again under autocast on a CPU with bfloat16 instructions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lmexp.config.model import Loss

IGNORE = -100
"""The target of a position that is not predicted (padding); its loss is 0."""

SMALL_LOGITS_BYTES = 16 * 2**20
CHUNK_TOKENS = 256
GPU_CHUNK_TOKENS = 4096
GROUP_ROWS = 64


class Head(nn.Module):
    """Output layer of a language model."""

    def __init__(self, hidden_size: int, vocab_size: int, *, bias: bool = False, loss: Loss = Loss.auto) -> None:
        super().__init__()
        self.weight: Tensor = nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        self.loss = loss

    def features(self, hidden_BTC: Tensor) -> Tensor:
        """Return what the output matrix is multiplied with: the hidden states, unless a head has layers of its own.

        Shape: (..., C) -> (..., C).
        """
        return hidden_BTC

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        """Return the scores of every token.

        Shape: (..., C) -> (..., V).
        """
        return F.linear(self.features(hidden_BTC), self.weight, self.bias)

    @torch.no_grad()
    def start_at_frequencies(self, counts_V: Tensor) -> None:
        """Set the bias, where there is one, to what the model should say before it has learned anything else.

        Formula: log((count + 1) / sum(counts + 1)). Shape: (V,).
        """
        if self.bias is not None:
            self.bias.copy_((counts_V + 1).double().log() - (counts_V + 1).sum().double().log())

    def nll(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the negative log-likelihood of each target, 0 where it is IGNORE.

        Shape: (B, T, C), (B, T) -> (B, T). Unit: nats.
        """
        hidden_NC, targets_N = hidden_BTC.flatten(0, -2), targets_BT.flatten()
        chunk = len(targets_N) if torch.is_grad_enabled() else CHUNK_TOKENS
        parts = [
            F.cross_entropy(single(self.logits(hidden)), targets, reduction="none", ignore_index=IGNORE)
            for hidden, targets in zip(hidden_NC.split(chunk), targets_N.split(chunk), strict=True)
        ]
        return torch.cat(parts).view_as(targets_BT)

    def nll_sum(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the sum of `nll`, in training without holding all logits where that pays.

        Shape: (B, T, C), (B, T) -> scalar. Unit: nats.
        """
        if not (torch.is_grad_enabled() and self._in_chunks(targets_BT)):
            return self.nll(hidden_BTC, targets_BT).sum()
        hidden_NC = self.features(hidden_BTC).flatten(0, -2)
        total: Tensor = ChunkedNLL.apply(hidden_NC, self.weight, self.bias, targets_BT.flatten(), 0.0)
        return total

    def smoothed_nll_sum(self, hidden_BTC: Tensor, targets_BT: Tensor, smoothing: float) -> Tensor:
        """Return the sum of the losses where a share of each target's weight is spread evenly over the vocabulary.

        Shape: (B, T, C), (B, T) -> scalar. Unit: nats. Source: Szegedy et al. 2016, section 7.
        """
        if not smoothing:
            return self.nll_sum(hidden_BTC, targets_BT)
        hidden_NC, targets_N = hidden_BTC.flatten(0, -2), targets_BT.flatten()
        if torch.is_grad_enabled() and self._in_chunks(targets_BT):
            total: Tensor = ChunkedNLL.apply(self.features(hidden_NC), self.weight, self.bias, targets_N, smoothing)
            return total
        logits = single(self.logits(hidden_NC))
        return F.cross_entropy(logits, targets_N, reduction="sum", ignore_index=IGNORE, label_smoothing=smoothing)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the loss of training; logits of generation and evaluation stay as they are."""
        self.nll_sum = torch.compile(self.nll_sum, *args, **options)  # type: ignore[method-assign]

    def _in_chunks(self, targets_BT: Tensor) -> bool:
        if self.loss is Loss.dense or torch.compiler.is_compiling():  # the compiler fuses what follows the logits
            return False
        return self.loss is Loss.chunked or targets_BT.numel() * len(self.weight) * 4 > SMALL_LOGITS_BYTES


EXACT = (torch.float32, torch.float64)


def single(logits: Tensor) -> Tensor:
    """Return logits at least as exact as float32, in which losses are computed."""
    return logits if logits.dtype in EXACT else logits.float()


class ChunkedNLL(torch.autograd.Function):
    """The sum of the losses, and its gradients on the way, so that no more than a chunk of logits is ever there.

    Matrices are multiplied in autocast's type where it is on; losses and gradients are summed in that of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_NC: Tensor, weight: Tensor, bias: Tensor | None, targets_N: Tensor, smoothing: float
    ) -> Tensor:
        device = hidden_NC.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        grad_bias = None if bias is None else torch.zeros_like(bias)
        with torch.autocast(device, enabled=False):
            total, grad_hidden_NC = nll_and_gradients(
                hidden_NC,
                weight.to(dtype),
                bias,
                targets_N,
                grad_weight=grad_weight,
                grad_bias=grad_bias,
                smoothing=smoothing,
            )
        ctx.save_for_backward(grad_hidden_NC, grad_weight, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if grad is None else grad.mul_(grad_total) for grad in ctx.saved_tensors), None, None)


def nll_and_gradients(
    hidden_NC: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    targets_N: Tensor,
    *,
    grad_weight: Tensor | None,
    grad_bias: Tensor | None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses and its gradient for the hidden states; those for weight and bias are added to.

    A share `smoothing` of each target's weight is spread over the vocabulary. Products are taken in the type of the
    matrix.
    Shape: (N, C), (V, C), (V,), (N,) -> scalar, (N, C).
    """
    chunk = CHUNK_TOKENS if hidden_NC.device.type == "cpu" else GPU_CHUNK_TOKENS
    grad_hidden_NC = torch.empty_like(hidden_NC)
    total = single(hidden_NC.new_zeros(()))
    for hidden, targets, grad_hidden in zip(
        *(tensor.split(chunk) for tensor in (hidden_NC, targets_N, grad_hidden_NC)), strict=True
    ):
        hidden, is_target, index = hidden.to(matrix.dtype), targets != IGNORE, targets.clamp(min=0)[:, None]
        logits = single(F.linear(hidden, matrix))
        if bias is not None:
            logits += bias
        log_p = logits.log_softmax(-1)
        total -= (1 - smoothing) * (log_p.gather(1, index)[:, 0] * is_target).sum()
        if smoothing:
            total -= smoothing * (log_p.mean(-1) * is_target).sum()
        grad_logits = log_p.exp_().scatter_add_(1, index, log_p.new_full(index.shape, smoothing - 1))
        if smoothing:
            grad_logits -= smoothing / log_p.shape[1]
        grad_logits *= is_target[:, None]
        if grad_bias is not None:
            grad_bias += grad_logits.sum(0)
        grad_logits = grad_logits.to(matrix.dtype)
        grad_hidden.copy_(grad_logits @ matrix)
        if grad_weight is not None:
            grad_weight += grad_logits.T @ hidden
    return total, grad_hidden_NC


class AdaptiveHead(Head):
    """Output layer whose rarer tokens are scored in groups, each only where the text needs it.

    The first group is scored everywhere, with one more score for each of the others; so a token's probability is that
    of its group times its own in the group. All groups are as wide as the model, so that embeddings can be tied.
    Source: Grave et al. 2017, section 4; without their narrower tails.
    """

    def __init__(self, hidden_size: int, vocab_size: int, cutoffs: list[int], *, bias: bool = False) -> None:
        super().__init__(hidden_size, vocab_size, bias=bias)
        inside = [cutoff for cutoff in cutoffs if cutoff < vocab_size]
        self.starts, self.ends = inside, [*inside[1:], vocab_size] if inside else []
        self.num_first = inside[0] if inside else vocab_size
        self.group_weight = nn.Parameter(torch.empty(len(self.starts), hidden_size).uniform_(-0.1, 0.1))
        self.group_bias = nn.Parameter(torch.zeros(len(self.starts))) if bias else None

    def logits(self, hidden_BTC: Tensor) -> Tensor:
        """Return the log-probability of every token, which are scores as good as any.

        Shape: (..., C) -> (..., V).
        """
        first = self._first(hidden_BTC).log_softmax(-1)
        groups = [
            self._group(hidden_BTC, number).log_softmax(-1) + first[..., self.num_first + number, None]
            for number in range(len(self.starts))
        ]
        return torch.cat((first[..., : self.num_first], *groups), dim=-1)

    @torch.no_grad()
    def start_at_frequencies(self, counts_V: Tensor) -> None:
        super().start_at_frequencies(counts_V)
        if self.bias is not None and self.group_bias is not None:
            for number, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
                self.group_bias[number] = self.bias[start:end].double().logsumexp(0)

    def nll(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        hidden_NC, targets_N = hidden_BTC.flatten(0, -2), targets_BT.flatten()
        parts = [
            self._nll(hidden, targets)
            for hidden, targets in zip(
                hidden_NC.split(2 * CHUNK_TOKENS), targets_N.split(2 * CHUNK_TOKENS), strict=True
            )
        ]
        return torch.cat(parts).view_as(targets_BT)

    def nll_sum(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.nll(hidden_BTC, targets_BT).sum()
        weights = (self.weight, self.bias, self.group_weight, self.group_bias)
        groups = list(zip(self.starts, self.ends, strict=True))
        total: Tensor = AdaptiveNLL.apply(hidden_BTC.flatten(0, -2), *weights, targets_BT.flatten(), groups)
        return total

    def _nll(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        in_first_N = targets_N
        groups = []
        for number, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            is_mine_N = (targets_N >= start) & (targets_N < end)
            in_first_N = in_first_N.masked_fill(is_mine_N, self.num_first + number)
            rows, hidden, targets = members(is_mine_N, hidden_NC, targets_N - start)
            logits = single(self._group(hidden, number))
            nll = F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORE)
            groups.append((rows, nll[: len(rows)]))
        nll_N = F.cross_entropy(single(self._first(hidden_NC)), in_first_N, reduction="none", ignore_index=IGNORE)
        for rows, nll in groups:
            nll_N = nll_N.index_add(0, rows, nll)
        return nll_N

    def _first(self, hidden: Tensor) -> Tensor:
        weight = torch.cat((self.weight[: self.num_first], self.group_weight))
        bias = None
        if self.bias is not None and self.group_bias is not None:
            bias = torch.cat((self.bias[: self.num_first], self.group_bias))
        return F.linear(hidden, weight, bias)

    def _group(self, hidden: Tensor, number: int) -> Tensor:
        part = slice(self.starts[number], self.ends[number])
        return F.linear(hidden, self.weight[part], None if self.bias is None else self.bias[part])


def members(is_member_N: Tensor, hidden_NC: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions of the members of a group, their hidden states and their targets, filled up with rows to be
    ignored: oneDNN compiles and keeps a kernel for each number of rows, so there must not be many.

    Shape: (N,), (N, C), (N,) -> (M,), (R, C), (R,).
    """
    rows_M = is_member_N.nonzero().squeeze(1)
    more = -len(rows_M) % GROUP_ROWS
    return rows_M, F.pad(hidden_NC[rows_M], (0, 0, 0, more)), F.pad(targets_N[rows_M], (0, more), value=IGNORE)


class AdaptiveNLL(torch.autograd.Function):
    """The sum of an adaptive head's losses, and its gradients on the way: each part of the weights has one gradient,
    written to its place, where autograd would make one of the whole vocabulary for every group.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NC: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        group_weight: Tensor,
        group_bias: Tensor | None,
        targets_N: Tensor,
        groups: list[tuple[int, int]],
    ) -> Tensor:
        device = hidden_NC.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NC.dtype
        num_first = groups[0][0] if groups else len(weight)
        grad_weight, grad_bias = torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)
        first, first_bias = torch.cat((weight[:num_first], group_weight)), None
        if bias is not None and group_bias is not None:
            first_bias = torch.cat((bias[:num_first], group_bias))
        grad_first = torch.zeros_like(first)
        grad_first_bias = None if first_bias is None else torch.zeros_like(first_bias)
        in_first_N = targets_N
        with torch.autocast(device, enabled=False):
            found = []
            for number, (start, end) in enumerate(groups):
                is_mine_N = (targets_N >= start) & (targets_N < end)
                in_first_N = in_first_N.masked_fill(is_mine_N, num_first + number)
                rows, hidden, targets = members(is_mine_N, hidden_NC, targets_N - start)
                loss, grad_hidden = nll_and_gradients(
                    hidden,
                    weight[start:end].to(dtype),
                    None if bias is None else bias[start:end],
                    targets,
                    grad_weight=grad_weight[start:end],
                    grad_bias=None if grad_bias is None else grad_bias[start:end],
                )
                found.append((rows, loss, grad_hidden))
            total, grad_hidden_NC = nll_and_gradients(
                hidden_NC, first.to(dtype), first_bias, in_first_N, grad_weight=grad_first, grad_bias=grad_first_bias
            )
        for rows, loss, grad_hidden in found:
            total += loss
            grad_hidden_NC.index_add_(0, rows, grad_hidden[: len(rows)])
        grad_weight[:num_first] = grad_first[:num_first]
        grad_group_bias = None
        if grad_bias is not None and grad_first_bias is not None:
            grad_bias[:num_first], grad_group_bias = grad_first_bias[:num_first], grad_first_bias[num_first:]
        ctx.save_for_backward(grad_hidden_NC, grad_weight, grad_bias, grad_first[num_first:].clone(), grad_group_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if grad is None else grad.mul_(grad_total) for grad in ctx.saved_tensors), None, None)
