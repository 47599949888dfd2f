import math

import pytest

from benchmarks import run
from benchmarks.measure import AGAIN, OURS, Benchmark, Goal, as_json, compare, measure, table
from benchmarks.process import python

PEER = "theirs"


def benchmark(*goals: Goal, **more: int) -> tuple[Benchmark, list[str]]:
    """Return sides that write down that they were called; ours takes 1, 2, 3 seconds, theirs 3, 4, 15."""
    called: list[str] = []

    def side(name: str, seconds: list[float], losses: list[float]):
        def measured(number: int) -> dict[str, float]:
            called.append(name)
            return {"wall_seconds": seconds[number], "test_loss_nats": losses[number]}

        return measured

    sides = {
        OURS: side(OURS, [1, 2, 3], [1.0, 1.1, 1.2]),
        PEER: side(PEER, [3, 4, 15], [2.0, 2.1, 2.2]),
        AGAIN: side(AGAIN, [1, 2, 3], [1.0, 1.1, 1.2]),
    }
    return Benchmark("", sides, rounds=3, goals=list(goals), **more), called


def rows_of(*goals: Goal) -> dict[tuple[str, str], object]:
    made, _ = benchmark(*goals)
    return {(row.peer, row.quantity): row for row in compare(made, measure(made))}


def test_rounds_alternate_and_warm_ups_do_not_count() -> None:
    made, called = benchmark(warmups=1)
    results = measure(made)
    there = [OURS, PEER, AGAIN]
    assert called == there[::-1] + there + there[::-1] + there
    assert [found["wall_seconds"] for found in results[PEER]] == [3, 4, 15]


def test_times_are_compared_by_the_ratio_of_their_medians() -> None:
    row = rows_of()[PEER, "wall_seconds"]
    assert (row.ours, row.theirs, row.value) == (2, 4, 2)
    assert (row.low, row.high) == (2, 5)
    assert row.is_met is None


def test_losses_are_compared_by_the_difference_of_their_means_with_an_interval() -> None:
    row = rows_of()[PEER, "test_loss_nats"]
    assert row.value == pytest.approx(1.0)
    half = 2.776 * math.sqrt(2 * 0.1**2 / 3)  # t of 4 degrees of freedom
    assert (row.low, row.high) == (pytest.approx(1 - half, abs=1e-3), pytest.approx(1 + half, abs=1e-3))


def test_the_control_shows_the_noise_and_has_no_goal() -> None:
    row = rows_of(Goal(None, "wall_seconds", 5))[AGAIN, "wall_seconds"]
    assert (row.value, row.low, row.high) == (1, 1, 1)
    assert row.is_met is None


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (Goal(PEER, "wall_seconds", 2), True),
        (Goal(PEER, "wall_seconds", 2.01), False),
        (Goal(PEER, "wall_seconds", 2, is_difference=True), True),
        (Goal(PEER, "wall_seconds", 2.1, is_difference=True), False),
        (Goal(PEER, "test_loss_nats", 0.99), True),
        (Goal(PEER, "test_loss_nats", 1.01), False),
        (Goal(None, "wall_seconds", 2), True),
        (Goal(None, "wall_seconds", 1.9), False),
    ],
    ids=str,
)
def test_a_goal_is_a_ratio_a_difference_or_a_value_of_our_own(goal: Goal, is_met: bool) -> None:
    made, _ = benchmark(goal)
    results = measure(made)
    rows = compare(made, results)
    (row,) = [row for row in rows if row.goal is not None]
    assert row.is_met is is_met
    assert ("met" if is_met else "MISSED") in "\n".join(table("a benchmark", rows))
    assert {found["is_met"] for found in as_json(made, results, rows)["rows"]} == {None, is_met}


def test_a_process_that_fails_says_what_it_said(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 3:(.|\n)*what went wrong"):
        python(["-c", "import sys; print('what went wrong', file=sys.stderr); sys.exit(3)"], tmp_path)


def test_the_most_memory_that_a_process_held_is_known(tmp_path) -> None:
    small, large = (python(["-c", f"bytearray({n} << 20)"], tmp_path).peak_bytes for n in (1, 101))
    assert 90 << 20 < large - small < 110 << 20


def test_what_a_benchmark_needs_is_asked_for(capsys) -> None:
    assert run.main(["shakespeare"]) == 1
    assert "give --nanogpt and --shakespeare" in capsys.readouterr().out


def test_an_unknown_name_is_an_error(capsys) -> None:
    assert run.main(["shakespear"]) == 2
    assert "there is no benchmark shakespear; there are: shakespeare, " in capsys.readouterr().err
