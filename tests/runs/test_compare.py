"""A comparison says what the numbers allow, refuses what they do not, and offers the way out."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

import lmexp
from lmexp.errors import RunError
from lmexp.runs.compare import Comparison
from lmexp.runs.comparison_table import as_text
from lmexp.runs.groups import letters
from lmexp.runs.statistics import welch
from tests.runs.conftest import MakeRun

NOISE = random.Random(0)
OTHER = "model=lstm"


def groups(make_run: MakeRun, *means: float, seeds: int = 5, sd: float = 0.01, **record: Any) -> None:
    """Make a group for each mean, told apart by the learning rate."""
    for place, mean in enumerate(means):
        for seed in range(seeds):
            value = mean + sd * [-1.2, 0.3, 1.1, -0.4, 0.2, 0.7, -0.6, 0.9][seed % 8] + 1e-4 * NOISE.random()
            make_run(value, f"optimizer.learning_rate={(place + 1) / 1000}", seed=seed, **record)


def compare(outputs: Path, *names: str, **options: Any) -> Comparison:
    return lmexp.compare(names, outputs=outputs, **options)


def curve(run: Any, points: list[tuple[int, float]], tokens_per_step: int = 10, speed: float = 100.0) -> None:
    lines = [
        {"step": step, "tokens": step * tokens_per_step, "val/bits_per_byte": value, "train/tokens_per_second": speed}
        for step, value in points
    ]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_clear_difference_is_stated_with_its_interval(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.00, 1.95)
    comparison = compare(outputs)
    best, baseline = comparison.groups
    assert (best.id, best.label, best.n, baseline.id) == ("B", "learning_rate=0.002", 5, "A")
    [difference] = comparison.differences
    shift = welch(best.numbers, baseline.numbers)
    assert (difference.value, difference.low, difference.high) == (shift.value, shift.low, shift.high)
    assert (difference.verdict, comparison.verdict) == ("better", "better")
    expected = (
        f"B is better than A by {-shift.value:.3f} bits per byte [{-shift.high:.3f}, {-shift.low:.3f}], n = 5 and 5"
    )
    assert difference.text == expected


def test_the_same_difference_the_other_way_is_worse(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.00, 1.95)
    [difference] = compare(outputs, baseline="B").differences
    assert (difference.group, difference.verdict) == ("A", "worse")
    [difference] = compare(outputs, baseline="B", better="higher").differences
    assert difference.verdict == "better"


def test_noise_is_not_a_difference_and_the_seeds_it_would_take_are_said(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.000, 1.992)
    [difference] = compare(outputs).differences
    assert difference.verdict == "cannot tell"
    assert difference.text.startswith("B and A: cannot tell: about ")
    assert difference.text.endswith("more seeds a side would")


@pytest.mark.parametrize(
    ("seeds", "text"), [(1, "B and A: n = 1: no statement"), (3, "B and A: n = 3: no statement below 4")]
)
def test_few_seeds_make_no_statement(outputs: Path, make_run: MakeRun, seeds: int, text: str) -> None:
    groups(make_run, 2.0, 1.0, seeds=seeds)
    comparison = compare(outputs)
    assert comparison.verdict == "no statement"
    assert comparison.differences[0].text.startswith(text)
    assert comparison.differences[0].p is None


def test_many_comparisons_ask_for_more(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.0, 1.986)
    assert compare(outputs).differences[0].p < 0.05  # type: ignore[operator]
    for place, mean in enumerate((2.001, 2.002, 2.003, 2.004)):
        for seed in range(5):
            make_run(mean + 0.01 * (seed - 2), "model=lstm", f"optimizer.learning_rate={place + 1}e-3", seed=seed)
    found = {difference.group: difference for difference in compare(outputs).differences}
    assert found["B"].p == pytest.approx(5 * max(found["B"].p_welch, found["B"].p_permutation))  # type: ignore[type-var, operator]
    assert found["B"].verdict == "cannot tell"


def test_four_seeds_cannot_carry_five_comparisons(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.0, 1.5, 2.001, 2.002, 2.003, 2.004, seeds=4)
    found = {difference.group: difference for difference in compare(outputs).differences}
    assert found["B"].p == pytest.approx(5 * 2 / 70)
    assert found["B"].verdict == "cannot tell"


def test_pairs_by_seed_need_six(outputs: Path, make_run: MakeRun) -> None:
    offsets = [0.3, -0.2, 0.1, 0.0, -0.4, 0.25]
    for seed, offset in enumerate(offsets):
        make_run(2 + offset, seed=seed)
        make_run(1.99 + offset + 0.001 * (seed % 2), OTHER, seed=seed)
    [alone] = compare(outputs).differences
    [pairs] = compare(outputs, paired=True).differences
    assert (alone.verdict, pairs.verdict) == ("cannot tell", "better")
    assert pairs.text.endswith("6 pairs")
    [five] = compare(outputs, paired=True, where="seed < 5").differences
    assert (five.verdict, "below 6" in five.text) == ("no statement", True)


def test_the_same_experiment_twice_counts_once(outputs: Path, make_run: MakeRun) -> None:
    first, second = make_run(2.0, seed=0), make_run(2.0, seed=0)
    make_run(2.1, seed=1)
    comparison = compare(outputs)
    assert [score.run for score in comparison.groups[0].scores] == [f"p/{second.path.name}", "p/run-0003"]
    assert comparison.left_out == [
        f"p/{first.path.name}: p/{second.path.name} is the same experiment with the same seed, and newer"
    ]


def test_what_cannot_be_counted_is_named_and_the_rest_goes_on(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.0, 1.9)
    make_run(float("nan"), seed=7)
    make_run(None, seed=8)
    make_run(1.0, seed=9, status="failed", error="loss is NaN\nat step 3")
    make_run(1.0, seed=10, status="running", heartbeat="2020-01-01T00:00:00+00:00")
    make_run(1.0, seed=11, name="torn").path.joinpath("run.json").write_text("{")
    comparison = compare(outputs)
    assert [group.n for group in comparison.groups] == [5, 5]
    reasons = sorted(text.split(": ", 1)[1] for text in comparison.left_out)
    assert reasons[:4] == [
        "cut off",
        "failed: loss is NaN at step 3",
        "it has no val/bits_per_byte",
        "its val/bits_per_byte is not a finite number",
    ]
    assert reasons[4].startswith("run.json cannot be read")
    assert len(reasons) == 5


def test_only_keys_that_differ_are_shown(outputs: Path, make_run: MakeRun) -> None:
    for seed in range(2):
        make_run(2.0, seed=seed)
        make_run(1.9, OTHER, "optimizer.learning_rate=0.1", "trainer.log_every_steps=7", seed=seed)
    comparison = compare(outputs)
    keys = set(comparison.groups[0].values)
    assert {"model.name", "optimizer.learning_rate"} <= keys
    assert not keys & {"seed", "trainer.log_every_steps", "model.num_heads"}
    assert comparison.groups[0].label.startswith("model=lstm ")


def test_other_files_under_the_same_keys_are_told_apart(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0, data_fingerprint="d1", metrics={"train/tokens_per_second": 10.0})
    make_run(2.0, data_fingerprint="d2", metrics={"train/tokens_per_second": 20.0})
    comparison = compare(outputs, metric="train/tokens_per_second")
    assert [group.label for group in comparison.groups] == ["data_fingerprint=d2", "data_fingerprint=d1"]


# Unlike things


def test_a_loss_a_token_of_other_tokenizers_is_refused_and_bits_per_byte_offered(
    outputs: Path, make_run: MakeRun
) -> None:
    both = {"val/loss_nats": 3.0, "val/bits_per_byte": 2.0}
    make_run(2.0, metrics=both)
    make_run(2.0, "tokenizer=bytes", tokenizer_hash="t2", metrics=both)
    with pytest.raises(RunError, match=r"--metric val/bits_per_byte"):
        compare(outputs, metric="val/loss_nats")
    assert compare(outputs, metric="val/bits_per_byte").differences


def test_other_data_is_refused(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0)
    make_run(2.0, data_fingerprint="d2")
    with pytest.raises(RunError, match=r"other data.*lmexp evaluate RUN data="):
        compare(outputs)


def test_another_task_is_refused(outputs: Path, make_run: MakeRun) -> None:
    make_run(2.0)
    make_run(2.0, "model=encoder", "task=masked")
    with pytest.raises(RunError, match="task=masked and pretrain"):
        compare(outputs)


def test_another_budget_is_refused_and_the_curve_offered(outputs: Path, make_run: MakeRun) -> None:
    for seed in range(4):
        curve(make_run(2.0, seed=seed, tokens=1000), [(50, 2.4 + seed / 100), (100, 2.0)])
        curve(make_run(1.5, OTHER, seed=seed, tokens=2000), [(50, 2.3 + seed / 100), (150, 1.7), (200, 1.5)])
    with pytest.raises(RunError, match=r"2,000 and 1,000 tokens.*--at tokens"):
        compare(outputs)
    assert compare(outputs, at="end").groups[0].mean == 1.5
    at_tokens = compare(outputs, at="tokens")
    assert at_tokens.at == "1,000 tokens"
    found = {group.entries[0].get("model.name"): group.numbers for group in at_tokens.groups}
    lstm = [2.3 + seed / 100 + 0.5 * (1.7 - 2.3 - seed / 100) for seed in range(4)]
    assert found == {"transformer": pytest.approx([2.0] * 4), "lstm": pytest.approx(lstm)}
    by_place = compare(outputs, at="tokens=500")
    assert sorted(group.mean for group in by_place.groups) == pytest.approx([2.315, 2.415])
    assert compare(outputs, at="seconds=5").groups[0].mean == pytest.approx(2.315)


def test_a_run_that_did_not_get_there_is_left_out(outputs: Path, make_run: MakeRun) -> None:
    curve(make_run(2.0, seed=0), [(50, 2.4), (100, 2.0)])
    curve(make_run(2.0, seed=1), [(50, 2.5), (60, 2.0)])
    comparison = compare(outputs, at="steps=80")
    assert [score.value for score in comparison.groups[0].scores] == pytest.approx([2.16])
    assert comparison.left_out == ["p/run-0002: it has no val/bits_per_byte at 80 steps"]


def test_what_is_alike_is_compared_and_what_is_not_is_named(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.0, 1.9)
    make_run(1.0, OTHER, data_fingerprint="d2")
    comparison = compare(outputs)
    assert [difference.group for difference in comparison.differences] == ["B"]
    assert any(text.startswith("C cannot be put beside A: they were trained") for text in comparison.left_out)


# What is asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "val/bits_per_bite"}, "did you mean val/bits_per_byte"),
        ({"metric": "my/score"}, "lower or a higher my/score better"),
        ({"better": "up"}, "choose lower or higher"),
        ({"baseline": "Z"}, r"means no group.*\nA  learning_rate=0.001"),
        ({"baseline": "run-"}, "means 2 groups"),
        ({"at": "epochs"}, "choose end, steps, tokens"),
        ({"at": "tokens=-3"}, "not a number above 0"),
        ({"at": "tokens"}, "no finished run has a curve"),
        ({"where": "seed > 99"}, "no runs to compare"),
        ({"where": "sed > 99"}, "did you mean seed"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    outputs: Path, make_run: MakeRun, options: dict[str, str], message: str
) -> None:
    groups(make_run, 2.0, 1.9, metrics={"val/bits_per_byte": 2.0, "my/score": 1.0})
    with pytest.raises(RunError, match=message):
        compare(outputs, **options)


@pytest.mark.parametrize(
    "baseline", ["B", "learning_rate=0.002", "optimizer.learning_rate=0.002", "run-0007", "p/run-0007"]
)
def test_a_baseline_has_many_names(outputs: Path, make_run: MakeRun, baseline: str) -> None:
    groups(make_run, 2.0, 1.9)
    assert compare(outputs, baseline=baseline).baseline == "B"


def test_runs_are_meant_by_project_pattern_tag_sweep_path_and_part(
    outputs: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    make_run(2.0, seed=0, project="one", name="alpha-1")
    make_run(2.0, seed=1, project="one", name="alpha-2", sweeps=["s1"])
    other = make_run(2.0, OTHER, project="two", name="beta-1")
    lmexp.runs.labels.tag(other, ["paper"])

    def meant(*names: str) -> list[str]:
        return [entry.path.name for entry in compare(outputs, *names).entries]

    assert meant("one") == ["alpha-1", "alpha-2"]
    assert meant("alpha*") == ["alpha-1", "alpha-2"]
    assert meant("paper") == ["beta-1"]
    assert meant("s1") == ["alpha-2"]
    assert meant(str(other.path), "alpha-1") == ["alpha-1", "beta-1"]
    assert meant(str(outputs / "one")) == ["alpha-1", "alpha-2"]
    with pytest.raises(RunError, match=r"part of 2 names.*'alpha-\*'"):
        meant("alpha-")
    with pytest.raises(RunError, match="neither a run nor a folder of runs"):
        meant(str(tmp_path))
    with pytest.raises(RunError, match="no run, project, sweep or tag is called 'gamma'"):
        meant("gamma")


def test_archived_runs_are_left_out_unless_named(outputs: Path, make_run: MakeRun) -> None:
    run = make_run(2.0, seed=0)
    make_run(2.1, seed=1)
    lmexp.runs.labels.archive(run)
    assert compare(outputs).groups[0].n == 1
    assert compare(outputs, run.path.name, "run-0002").groups[0].n == 2
    lmexp.runs.labels.archive(run, archived=False)
    assert compare(outputs).groups[0].n == 2


def test_as_dict_is_json_with_groups_differences_and_a_verdict(outputs: Path, make_run: MakeRun) -> None:
    groups(make_run, 2.0, 1.9)
    values = json.loads(json.dumps(compare(outputs).as_dict(), allow_nan=False))
    assert values["verdict"] == "better"
    assert [group["n"] for group in values["groups"]] == [5, 5]
    assert set(values["groups"][0]["runs"][0]) == {"run", "seed", "value"}
    assert values["differences"][0]["p_permutation"] == pytest.approx(2 / 252)


def test_letters_go_on_after_z() -> None:
    assert [letters(place) for place in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_holds_the_numbers(outputs: Path, make_run: MakeRun, width: int) -> None:
    groups(make_run, 2.0, 1.9)
    make_run(float("nan"), seed=99, name="\x1b[31mred")
    text = as_text(compare(outputs), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "▲ B  learning_rate=0.002  5  1.9" in text
    assert "B is better than A by 0.1" in text
    assert "\x1b" not in text
    assert "not a finite number" in text
