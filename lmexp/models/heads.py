"""From hidden states to logits, and to the loss without holding all of them.

Shapes: B rows, T tokens, C hidden size, V vocabulary, N = B * T.
Training sums the loss with torch's `linear_cross_entropy`, which works through a chunk of tokens at a time, where the
installed torch has it and the logits are large; measured here it is 1.2 to 2.5 times as fast as dense logits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmexp.config.model import Loss

IGNORE = -100
"""The target of a position that is not predicted (padding); its loss is 0."""

SMALL_LOGITS_BYTES = 16 * 2**20
CHUNK_TOKENS = 256


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
            F.cross_entropy(self.logits(hidden).float(), targets, reduction="none", ignore_index=IGNORE)
            for hidden, targets in zip(hidden_NC.split(chunk), targets_N.split(chunk), strict=True)
        ]
        return torch.cat(parts).view_as(targets_BT)

    def nll_sum(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the sum of `nll`, in training without holding all logits where that pays.

        Shape: (B, T, C), (B, T) -> scalar. Unit: nats.
        """
        if not (torch.is_grad_enabled() and self._fuse(hidden_BTC, targets_BT.numel())):
            return self.nll(hidden_BTC, targets_BT).sum()
        return F.linear_cross_entropy(
            self.features(hidden_BTC).flatten(0, -2),
            self.weight,
            targets_BT.flatten(),
            linear_bias=self.bias,
            reduction="sum",
            ignore_index=IGNORE,
            options=nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_TOKENS),
        )

    def _fuse(self, hidden_BTC: Tensor, num_tokens: int) -> bool:
        if self.loss is Loss.dense or not hasattr(F, "linear_cross_entropy"):
            return False
        if torch.is_autocast_enabled(hidden_BTC.device.type) or torch.compiler.is_compiling():
            return False  # the fused loss knows neither
        if hidden_BTC.dtype is not torch.float32:
            return False  # it would sum thousands of losses in that type
        return self.loss is Loss.fused or num_tokens * self.weight.shape[0] * 4 > SMALL_LOGITS_BYTES


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
                hidden_NC.split(8 * CHUNK_TOKENS), targets_N.split(8 * CHUNK_TOKENS), strict=True
            )
        ]
        return torch.cat(parts).view_as(targets_BT)

    def nll_sum(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        return self.nll(hidden_BTC, targets_BT).sum()

    def _nll(self, hidden_NC: Tensor, targets_N: Tensor) -> Tensor:
        in_first_N = targets_N
        groups = []
        for number, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            is_mine_N = (targets_N >= start) & (targets_N < end)
            in_first_N = in_first_N.masked_fill(is_mine_N, self.num_first + number)
            rows = is_mine_N.nonzero().squeeze(1)
            logits = self._group(hidden_NC[rows], number).float()
            groups.append((rows, F.cross_entropy(logits, targets_N[rows] - start, reduction="none")))
        nll_N = F.cross_entropy(self._first(hidden_NC).float(), in_first_N, reduction="none", ignore_index=IGNORE)
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
