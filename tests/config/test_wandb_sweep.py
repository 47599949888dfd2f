"""conf/wandb_sweep.yaml is a sweep that W&B accepts, and the command that its agent makes of a trial is one of ours."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb import wandb_agent

from lmexp import compose
from lmexp.config.compose import CONF

SWEEP: dict[str, Any] = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text(encoding="utf-8"))


def command_of(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command that W&B's agent starts for a trial; only starting it is left out."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: Any) -> None:
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Process)
    agent = object.__new__(wandb_agent.Agent)
    agent._sweep_command, agent._function, agent._in_jupyter = list(SWEEP["command"]), None, False
    agent._run_processes, agent._forward_signals = {}, False
    arguments = {name: {"value": value} for name, value in values.items()}
    monkeypatch.setenv("WANDB_RUN_ID", "before")  # the agent sets these; undone after the test
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "before")
    agent._command_run({"run_id": "trial1", "program": SWEEP["program"], "args": arguments})
    return started[0]


def test_wandb_accepts_the_sweep() -> None:
    sweeps = pytest.importorskip("sweeps", reason="pip install 'wandb[sweeps]'")
    assert sweeps.schema_violations_from_proposed_config(SWEEP) == []
    assert sweeps.schema_violations_from_proposed_config(SWEEP | {"method": "guess"})


@pytest.mark.parametrize("end", ["min", "max"])
def test_the_command_of_a_trial_composes_to_the_values_of_the_trial(
    end: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = 0 if end == "min" else -1
    spaces = SWEEP["parameters"].items()
    values = {name: space["values"][place] if "values" in space else space[end] for name, space in spaces}
    command = command_of(values, monkeypatch)
    assert command[:3] == ["/usr/bin/env", "lmexp", "train"]
    config = compose("train", command[3:])
    chosen = {"model": config.model.name, "optimizer.learning_rate": config.optimizer.learning_rate}
    assert values == chosen | {"seed": config.seed}
    assert config.logger.mode is not None
    assert config.logger.mode.name == "online"


def test_a_small_learning_rate_arrives_though_python_writes_it_with_an_exponent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = command_of({"optimizer.learning_rate": 3.1e-05}, monkeypatch)
    assert compose("train", command[3:]).optimizer.learning_rate == 3.1e-05


def test_the_metric_is_one_that_every_run_logs_and_less_is_better() -> None:
    assert SWEEP["metric"] == {"name": "val/bits_per_byte", "goal": "minimize"}
