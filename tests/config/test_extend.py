"""A run for longer has the config of its parent, and only a few keys may change."""

from pathlib import Path

import pytest

from lmexp import compose
from lmexp.errors import ConfigError
from lmexp.runs import RunFolder


@pytest.fixture
def parent(folder: Path) -> Path:
    run = RunFolder(folder / "outputs" / "lmexp" / "lstm-abc")
    run.create(compose("train", ["model=lstm", "seed=3", "trainer.max_steps=10"]))
    return run.path


def test_everything_but_the_given_keys_comes_from_the_parent(parent: Path) -> None:
    config = compose("train", [f"resume={parent}", "trainer.max_steps=20", "trainer.devices=2"])
    assert config.model.name == "lstm"
    assert config.seed == 3
    assert config.trainer.max_steps == 20
    assert config.resume == str(parent)


def test_keys_that_make_another_experiment_are_refused_by_name(parent: Path) -> None:
    with pytest.raises(ConfigError) as error:
        compose("train", [f"resume={parent}", "seed=4", "model.hidden_size=8", "logger=none", "model.hiden=1"])
    assert [problem.key for problem in error.value.problems] == ["logger", "model.hiden", "seed", "model.hidden_size"]
    assert "cannot change when a run is trained for longer; trainer.max_steps" in str(error.value)
