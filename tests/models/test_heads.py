import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lmexp.config.model import Loss
from lmexp.models.heads import CHUNK_TOKENS, IGNORE, SMALL_LOGITS_BYTES, AdaptiveHead, Head
from tests.models.setups import assert_close

VOCAB_SIZE = 50


def new_head(loss: Loss, *, bias: bool) -> Head:
    torch.manual_seed(0)
    head = Head(12, VOCAB_SIZE, bias=bias, loss=loss)
    for weight in head.parameters():
        torch.nn.init.normal_(weight)
    return head


def random_input(rows: int, length: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, length, 12, generator=random).requires_grad_()
    return hidden, torch.randint(VOCAB_SIZE, (rows, length), generator=random)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, CHUNK_TOKENS + 1)])
def test_nll_equals_minus_the_log_of_the_softmax(shape: tuple[int, int], bias: bool) -> None:
    head, (hidden, targets) = new_head(Loss.auto, bias=bias), random_input(*shape)
    logits = hidden @ head.weight.T + (head.bias if bias else 0)
    expected = -torch.log(logits.exp() / logits.exp().sum(-1, keepdim=True)).gather(-1, targets[..., None])[..., 0]
    assert_close(head.nll(hidden, targets), expected)
    with torch.no_grad():
        assert_close(head.nll(hidden, targets), expected)


def test_nll_equals_the_cross_entropy_of_torch() -> None:
    head, (hidden, targets) = new_head(Loss.auto, bias=True), random_input(2, 300)
    expected = F.cross_entropy(head.logits(hidden).flatten(0, 1), targets.flatten(), reduction="none")
    assert_close(head.nll(hidden, targets).flatten(), expected)


@pytest.mark.parametrize("loss", Loss)
def test_ignored_targets_have_no_loss_and_no_gradient(loss: Loss) -> None:
    head, (hidden, targets) = new_head(loss, bias=True), random_input(2, 6)
    targets[0, 2:] = IGNORE
    nll = head.nll(hidden, targets)
    assert (nll[0, 2:] == 0).all()
    assert (nll[0, :2] > 0).all()
    head.nll_sum(hidden, targets).backward()
    assert (hidden.grad[0, 2:] == 0).all()


@pytest.mark.parametrize("loss", Loss)
def test_a_batch_without_targets_has_loss_0(loss: Loss) -> None:
    head, (hidden, targets) = new_head(loss, bias=True), random_input(2, 6)
    total = head.nll_sum(hidden, torch.full_like(targets, IGNORE))
    total.backward()
    assert total == 0
    assert (head.weight.grad == 0).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("length", [1, 7, CHUNK_TOKENS + 3])
def test_chunked_and_dense_agree_in_value_and_gradients(length: int, bias: bool) -> None:
    results = []
    for loss in (Loss.dense, Loss.chunked):
        head, (hidden, targets) = new_head(loss, bias=bias), random_input(2, length)
        targets[0, : length // 2] = IGNORE
        mean = head.nll_sum(hidden, targets) / targets.numel()
        mean.backward()
        results.append([mean, hidden.grad, *(weight.grad for weight in head.parameters())])
    for dense, chunked in zip(*results, strict=True):
        assert_close(chunked, dense)


@pytest.mark.parametrize(("loss", "chunked"), [(Loss.dense, False), (Loss.auto, False), (Loss.chunked, True)])
def test_the_loss_of_few_tokens_is_computed_as_chosen(loss: Loss, chunked: bool) -> None:
    head, (hidden, targets) = new_head(loss, bias=False), random_input(2, 6)
    assert ("ChunkedNLL" in type(head.nll_sum(hidden, targets).grad_fn).__name__) == chunked


@pytest.mark.parametrize(("more", "chunked"), [(0, False), (1, True)])
def test_auto_takes_chunks_where_the_logits_are_large(more: int, chunked: bool) -> None:
    largest_dense = SMALL_LOGITS_BYTES // (4 * VOCAB_SIZE)
    head, (hidden, targets) = new_head(Loss.auto, bias=False), random_input(1, largest_dense + more)
    assert ("ChunkedNLL" in type(head.nll_sum(hidden, targets).grad_fn).__name__) == chunked


def test_a_frozen_head_gets_no_gradient() -> None:
    head, (hidden, targets) = new_head(Loss.chunked, bias=False), random_input(2, 6)
    head.weight.requires_grad_(False)
    head.nll_sum(hidden, targets).backward()
    assert head.weight.grad is None
    assert hidden.grad.abs().min() > 0


@pytest.mark.parametrize("loss", [Loss.dense, Loss.chunked])
def test_losses_are_summed_in_32_bits_where_matrices_are_multiplied_in_16(loss: Loss) -> None:
    hidden, targets = random_input(2, 6)
    head = new_head(loss, bias=True)
    exact = head.nll_sum(hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = head.nll_sum(hidden, targets)
    in_bfloat16 = head.bfloat16().nll_sum(hidden.bfloat16(), targets)
    for total in (under_autocast, in_bfloat16):
        assert total.dtype == torch.float32
        assert abs(total - exact) < 0.01 * exact
        total.backward()


def new_adaptive_head(cutoffs: list[int], *, bias: bool = True) -> AdaptiveHead:
    torch.manual_seed(0)
    head = AdaptiveHead(12, VOCAB_SIZE, cutoffs, bias=bias)
    for weight in head.parameters():
        torch.nn.init.normal_(weight)
    return head


@pytest.mark.parametrize("cutoffs", [[10], [10, 30], [1, 2, 49], [10, 60], [70]])
def test_adaptive_probabilities_add_up_to_one_and_are_those_of_nll(cutoffs: list[int]) -> None:
    head, (hidden, targets) = new_adaptive_head(cutoffs), random_input(3, 40)
    logits = head.logits(hidden)
    assert_close(logits.logsumexp(-1), torch.zeros(3, 40))
    assert_close(head.nll(hidden, targets), -logits.gather(-1, targets[..., None])[..., 0])


def test_the_adaptive_head_equals_torchs() -> None:
    head, (hidden, targets) = new_adaptive_head([10, 30], bias=False), random_input(3, 40)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(12, VOCAB_SIZE, [10, 30], div_value=1.0)
    with torch.no_grad():
        theirs.head.weight.copy_(torch.cat((head.weight[:10], head.group_weight)))
        for group, (start, end) in zip(theirs.tail, [(10, 30), (30, 50)], strict=True):
            group[0].weight.copy_(torch.eye(12))  # theirs narrows the tails, ours does not
            group[1].weight.copy_(head.weight[start:end])
    assert_close(head.nll(hidden, targets).flatten(), -theirs(hidden.flatten(0, 1), targets.flatten()).output)
    assert_close(head.logits(hidden).flatten(0, 1), theirs.log_prob(hidden.flatten(0, 1)))


def test_the_adaptive_head_ignores_what_is_to_be_ignored() -> None:
    head, (hidden, targets) = new_adaptive_head([10, 30]), random_input(2, 6)
    targets[0, 2:] = IGNORE
    nll = head.nll(hidden, targets)
    assert (nll[0, 2:] == 0).all()
    assert (nll[1] > 0).all()
    head.nll_sum(hidden, targets).backward()
    assert (hidden.grad[0, 2:] == 0).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cutoffs", [[10, 30], [1, 2, 49], [70]])
def test_the_adaptive_sum_has_the_value_and_the_gradients_of_the_losses(cutoffs: list[int], bias: bool) -> None:
    results = []
    for is_sum in (False, True):
        head, (hidden, targets) = new_adaptive_head(cutoffs, bias=bias), random_input(2, CHUNK_TOKENS + 3)
        targets[0, :20] = IGNORE
        mean = (head.nll_sum(hidden, targets) if is_sum else head.nll(hidden, targets).sum()) / targets.numel()
        mean.backward()
        results.append([mean, hidden.grad, *(weight.grad for weight in head.parameters())])
    for expected, found in zip(*results, strict=True):
        assert_close(found, expected)


def test_an_adaptive_bias_starts_at_the_frequencies_of_the_tokens() -> None:
    head = new_adaptive_head([10, 30])
    counts = torch.arange(VOCAB_SIZE, 0, -1)
    head.start_at_frequencies(counts)
    expected = ((counts + 1) / (counts + 1).sum()).log()
    assert_close(head.logits(torch.zeros(1, 12))[0], expected)
