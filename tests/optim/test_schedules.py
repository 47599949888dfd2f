import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from lmexp.config.schedule import ConstantConfig, CosineConfig, LinearConfig, WSDConfig
from lmexp.config.schema import OPTIONS, build
from lmexp.optim.schedules import Schedule

ALL = pytest.mark.parametrize("option", OPTIONS["schedule"].values(), ids=OPTIONS["schedule"].keys())


def schedule(config: Any, *, max_steps: int = 100, tokens_per_step: int = 50) -> Schedule:
    return build(config, max_steps=max_steps, tokens_per_step=tokens_per_step)


def values(config: Any, steps: list[int], **runtime: int) -> list[float]:
    return [schedule(config, **runtime)(step) for step in steps]


def test_constant_stays_at_the_peak() -> None:
    assert values(ConstantConfig(warmup_steps=4), [0, 1, 3, 4, 99]) == pytest.approx([0.2, 0.4, 0.8, 1, 1])


def test_cosine_falls_along_half_a_cosine() -> None:
    config = CosineConfig(warmup_steps=20, final_factor=0.2)
    root = math.sqrt(0.5)
    expected = [10 / 21, 1, 0.2 + 0.4 * (1 + root), 0.6, 0.2 + 0.4 * (1 - root), 0.2]
    assert values(config, [9, 20, 40, 60, 80, 100]) == pytest.approx(expected)


def test_linear_falls_along_a_line() -> None:
    config = LinearConfig(warmup_steps=20, final_factor=0.5)
    assert values(config, [0, 20, 40, 60, 100]) == pytest.approx([1 / 21, 1, 0.875, 0.75, 0.5])


def test_wsd_stays_at_the_peak_and_falls_at_the_end() -> None:
    config = WSDConfig(warmup_steps=10, decay_steps=40, final_factor=0.2)
    assert values(config, [0, 10, 60, 80, 90, 100]) == pytest.approx([1 / 11, 1, 1, 0.6, 0.4, 0.2])


def test_wsd_decays_in_the_last_fifth_unless_told() -> None:
    assert values(WSDConfig(), [0, 79, 80, 90, 99]) == pytest.approx([1, 1, 1, 0.5, 0.05])


@ALL
def test_a_span_is_the_same_in_steps_tokens_and_fractions(option: Any) -> None:
    units = [{"steps": 10}, {"tokens": 500.0}, {"fraction": 0.1}]
    by_unit = [option(**{f"{span}_{unit}": x for span in option.spans for unit, x in u.items()}) for u in units]
    steps = list(range(101))
    in_steps, in_tokens, in_fractions = (values(config, steps) for config in by_unit)
    assert in_steps == in_tokens == in_fractions
    assert schedule(by_unit[0]).warmup_steps == 10


@ALL
def test_every_schedule_rises_to_the_peak_and_never_rises_again(option: Any) -> None:
    factors = values(option(warmup_steps=7), list(range(101)))
    assert factors[:8] == pytest.approx([n / 8 for n in range(1, 9)])
    assert max(factors) == factors[7] == 1
    assert all(later <= earlier for earlier, later in pairwise(factors[7:]))


@ALL
def test_every_schedule_ends_at_its_final_factor_and_stays_there(option: Any) -> None:
    final = getattr(option(), "final_factor", 1.0)
    assert values(option(warmup_steps=7), [100, 101, 1000]) == pytest.approx([final] * 3)


@ALL
def test_no_step_of_a_run_has_a_learning_rate_of_0(option: Any) -> None:
    for max_steps in (1, 2, 3, 10):
        for fraction in (None, 0.0, 0.5, 1.0):
            factors = values(option(warmup_fraction=fraction), list(range(max_steps)), max_steps=max_steps)
            assert all(0 < factor <= 1 for factor in factors)


@ALL
def test_a_run_of_one_step_without_warmup_is_at_the_peak(option: Any) -> None:
    assert values(option(), [0], max_steps=1) == [1.0]


@ALL
def test_a_warmup_longer_than_the_run_only_rises(option: Any) -> None:
    factors = values(option(warmup_steps=50), list(range(10)), max_steps=10)
    assert factors == pytest.approx([n / 51 for n in range(1, 11)])


def test_a_decay_longer_than_what_the_warmup_leaves_begins_at_the_peak() -> None:
    config = WSDConfig(warmup_steps=60, decay_steps=80)
    assert values(config, [59, 60, 80, 100]) == pytest.approx([60 / 61, 1, 0.5, 0])


def test_a_decay_of_no_steps_stays_at_the_peak() -> None:
    assert values(WSDConfig(decay_steps=0), [0, 50, 99]) == [1, 1, 1]


def test_a_schedule_drives_the_learning_rate_of_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    factor = schedule(LinearConfig(warmup_steps=1), max_steps=4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.25, 0.5, 0.5 * 2 / 3, 0.5 / 3])
