"""What a report says is what the folders say, in every format; bad runs are shown, not fatal."""

import json
from pathlib import Path

import pytest

from lmexp.errors import RunError
from lmexp.runs import labels
from lmexp.runs.compare import compare_entries
from lmexp.runs.curves import read_curves
from lmexp.runs.listing import select
from lmexp.runs.report.content import MOST_POINTS, importance, report_content
from lmexp.runs.report.markdown import as_markdown
from lmexp.runs.report.page import page
from lmexp.runs.report.write import write_report
from tests.runs.conftest import MakeRun


def write_curve(run: object, rows: list[dict[str, object]]) -> None:
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # type: ignore[attr-defined]


@pytest.fixture
def project(make_run: MakeRun, outputs: Path) -> Path:
    """Two groups of five, with curves, samples, a failure and an unreadable run."""
    for seed in range(5):
        for place, model in enumerate(("transformer", "lstm")):
            run = make_run(2.0 + 0.1 * place + seed / 500, f"model={model}", seed=seed, flops=2e6, seconds_trained=20.0)
            rows: list[dict[str, object]] = [
                {"step": step, "tokens": 10 * step, "train/loss_nats": 3.0, "train/tokens_per_second": 100.0}
                for step in range(1, 101)
            ]
            rows[49]["val/bits_per_byte"] = 2.5
            rows += [{"step": 100, "tokens": 1000, "val/bits_per_byte": 2.0 + 0.1 * place + seed / 500}]
            write_curve(run, rows)
            run.append("samples.jsonl", {"step": 50, "prompt": "a", "text": "early"})
            run.append("samples.jsonl", {"step": 100, "prompt": "The", "text": "end\x1b[0m"})
    make_run(None, seed=9, status="failed", error="the disk was full | <b>")
    (make_run(1.0, name="torn").path / "run.json").write_text("{")
    return outputs


def test_the_content_holds_groups_runs_curves_samples_and_failures(project: Path) -> None:
    content = json.loads(json.dumps(report_content(select(outputs=project), title="t", command="c"), allow_nan=False))
    assert [(group["id"], group["n"]) for group in content["groups"]] == [("A", 5), ("B", 5)]
    assert content["groups"][1]["difference"]["verdict"] == "worse"
    assert len(content["runs"]) == 12
    run = next(run for run in content["runs"] if run["seed"] == 0 and run["status"] == "done")
    assert run["group"] == "A"
    assert len(run["curves"]["step"]) == len(run["curves"]["series"]["train/loss_nats"]) == 101
    assert run["curves"]["flops"][-1] == 2e6
    assert run["curves"]["seconds"][-1] == pytest.approx(10.0)
    assert run["samples"] == [{"step": 100, "prompt": "The", "text": "end\x1b[0m"}]
    assert next(run["error"] for run in content["runs"] if run["status"] == "failed") == "the disk was full | <b>"
    assert content["keys"]["model.num_layers"] == "LSTM layers stacked on each other"


def test_importance_is_the_share_of_the_variance_a_key_explains(project: Path) -> None:
    rows = importance(compare_entries([entry for entry in select(outputs=project) if entry.status == "done"]))
    shares = {row["key"]: row["share"] for row in rows}
    assert shares["model.name"] > 0.95


def test_importance_of_noise_is_none(make_run: MakeRun, outputs: Path) -> None:
    for seed in range(6):
        for rate in (0.1, 0.2):
            make_run(2.0 + seed / 10, f"optimizer.learning_rate={rate}", seed=seed)
    [row] = importance(compare_entries(select(outputs=outputs)))
    assert row["share"] == 0


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.svg", "r.png", "r.pdf"])
def test_every_format_is_written(project: Path, tmp_path: Path, name: str) -> None:
    path = write_report(select(outputs=project), tmp_path / name)
    assert path.stat().st_size > 500


def test_an_unknown_format_and_nothing_to_report_are_said(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="choose an ending"):
        write_report(select(outputs=project), tmp_path / "r.doc")
    with pytest.raises(RunError, match="no runs to report on"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(RunError, match="no run has the metric"):
        write_report(select(outputs=project), tmp_path / "r.html", metric="val/none")


def test_runs_that_cannot_be_compared_still_make_a_report(make_run: MakeRun, outputs: Path) -> None:
    make_run(None, status="failed", error="no memory")
    content = report_content(select(outputs=outputs), title="t", command="c")
    assert (content["groups"], content["runs"][0]["error"]) == ([], "no memory")
    assert "no memory" in page(content)
    assert "no memory" in as_markdown(content)
    make_run(2.0)
    make_run(2.0, data_fingerprint="d2")
    content = report_content(select(outputs=outputs), title="t", command="c")
    assert len(content["groups"]) == 2
    assert any("other data" in note for note in content["notes"])


def test_markdown_has_no_markup_of_others(project: Path) -> None:
    run = select(outputs=project)[0]
    labels.rename(run.folder, "<script>|[x](javascript:1)`")
    text = as_markdown(report_content(select(outputs=project), title="<b>|", command="c"))
    assert "<script>" not in text.replace("\\<", "")
    assert "the disk was full \\| \\<b\\>" in text
    rows = [line for line in text.splitlines() if line.startswith("| A ")]
    assert rows[0].replace("\\|", "").count("|") == 8


def test_long_curves_are_thinned_and_keep_every_evaluation_they_can(make_run: MakeRun, outputs: Path) -> None:
    rows: list[dict[str, object]] = [
        {"step": step, "tokens": step, "train/loss_nats": 3.0} | ({"val/loss_nats": 2.0} if step % 50 == 0 else {})
        for step in range(1, 5001)
    ]
    write_curve(make_run(2.0), rows)
    [entry] = select(outputs=outputs)
    thinned = read_curves(entry, ["train/loss_nats", "val/loss_nats"], most=MOST_POINTS)
    assert len(thinned.axes["steps"]) <= MOST_POINTS
    assert len(thinned.points("val/loss_nats", "steps")[0]) == 100
    assert (thinned.axes["steps"][0], thinned.axes["steps"][-1]) == (1, 5000)


def test_lines_that_are_damaged_are_left_out_of_a_curve(make_run: MakeRun, outputs: Path) -> None:
    run = make_run(2.0)
    lines = [
        '{"step": 1, "a": 1}',
        "[1]",
        "{",
        '{"step": "x"}',
        '{"step": 2, "a": NaN}',
        '{"step": 1, "a": 9}',
        '{"step": 3, "a": 3}',
    ]
    (run.path / "metrics.jsonl").write_text("\n".join(lines))
    [entry] = select(outputs=outputs)
    assert read_curves(entry).points("a", "steps") == ([1, 3], [1, 3])
