"""A run that was stopped and started again ends bit by bit as one that was never stopped."""

import signal
from pathlib import Path

import pytest

from lmexp import train
from lmexp.errors import RunError, Stopped
from lmexp.runs import RunFolder
from tests.training.setups import KINDS, outcome, stop_at, tiny


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> dict[str, dict]:
    return {}


def reference(kind: str, known: dict[str, dict], text_file: Path, folder: Path) -> dict:
    if kind not in known:
        known[kind] = outcome(train(tiny(text_file, *KINDS[kind], f"output_dir={folder}/reference")))
    return known[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro_step", [9, 12, 16])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    kind: str, micro_step: int, folder: Path, text_file: Path, uninterrupted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(kind, uninterrupted, text_file, folder)
    config = tiny(text_file, *KINDS[kind])
    stop_at(monkeypatch, micro_step)
    with pytest.raises(Stopped) as stopped:
        train(config)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert outcome(train(config)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    kind: str, folder: Path, text_file: Path, uninterrupted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference(kind, uninterrupted, text_file, folder)
    config = tiny(text_file, *KINDS[kind])
    stop_at(monkeypatch, 21, RuntimeError("the power went out"))
    with pytest.raises(RuntimeError, match="power"):
        train(config)
    with pytest.raises(RunError, match="resume=force goes on from its last checkpoint"):
        train(config)
    again = tiny(text_file, *KINDS[kind], "resume=force")
    assert outcome(train(again)) == expected


def test_three_stops_in_one_run_change_nothing(
    folder: Path, text_file: Path, uninterrupted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reference("transformer", uninterrupted, text_file, folder)
    config = tiny(text_file, *KINDS["transformer"])
    for micro_step in (3, 10, 21):
        stop_at(monkeypatch, micro_step)
        with pytest.raises(Stopped):
            train(config)
    assert outcome(train(config)) == expected


def test_how_often_checkpoints_and_lines_are_written_changes_no_result(folder: Path, text_file: Path) -> None:
    often = train(tiny(text_file, *KINDS["transformer"], "trainer.checkpoint_every_steps=1"))
    never = tiny(text_file, *KINDS["transformer"], "trainer.checkpoint_every_steps=null", "output_dir=other")
    assert outcome(often)["weights"] == outcome(train(never))["weights"]


def test_the_same_experiment_is_shown_and_not_trained_again(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    first = train(config)
    ended = first.record["ended"]
    assert train(config).record["ended"] == ended


def test_another_seed_is_another_run(folder: Path, text_file: Path) -> None:
    first, second = (train(tiny(text_file, "model=transformer_tiny", f"seed={seed}")) for seed in (0, 1))
    assert first.path != second.path
    assert outcome(first)["weights"] != outcome(second)["weights"]


def test_other_code_makes_a_new_folder_beside_a_finished_run(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    first = train(config)
    first.update(source_hash="older")
    said: list[str] = []
    second = train(config, say=said.append)
    assert second.path.name == f"{first.path.name}-2"
    assert any("other code" in line for line in said)


def test_other_code_does_not_go_on_without_being_asked(
    folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    stop_at(monkeypatch, 9)
    with pytest.raises(Stopped):
        train(config)
    run = next(RunFolder(path) for path in Path("outputs/lmexp").iterdir())
    run.update(source_hash="older")
    with pytest.raises(RunError, match=r"code has changed since; resume=force .* resume=never"):
        train(config)
    assert train(tiny(text_file, "model=transformer_tiny", "resume=force")).path == run.path


def test_never_resuming_starts_again_in_a_new_folder(folder: Path, text_file: Path) -> None:
    first = train(tiny(text_file, "model=transformer_tiny"))
    again = train(tiny(text_file, "model=transformer_tiny", "resume=never"))
    assert again.path.name == f"{first.path.name}-2"
    assert outcome(again) == outcome(first)


def test_a_changed_config_in_the_folder_is_refused(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    run = train(config)
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("hidden_size: 16", "hidden_size: 32"))
    with pytest.raises(RunError, match="holds another config"):
        train(config)


def test_a_run_that_another_process_trains_is_left_alone(folder: Path, text_file: Path) -> None:
    config = tiny(text_file, "model=transformer_tiny")
    run = train(config)
    run.update(status="running")
    with run.lock(), pytest.raises(RunError, match=r"is being trained by process \d+ on "):
        train(config)


def test_changed_text_is_another_run(folder: Path, tmp_path: Path, text_file: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_text(text_file.read_text())
    same = train(tiny(copy, "model=transformer_tiny"))
    assert train(tiny(text_file, "model=transformer_tiny")).path == same.path
    copy.write_text(text_file.read_text().replace("cat", "cow"))
    assert train(tiny(copy, "model=transformer_tiny")).path != same.path
