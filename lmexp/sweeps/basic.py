"""`lmexp train -m`: Hydra's sweeper and launcher decide which trials there are; each trial is a run of its own process.

A trial that fails does not stop the others, and one that is done already is shown and not trained again.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lmexp.config.compose import CONF, compose_trials, hydra_searchpath, register_schemas
from lmexp.config.extend import with_source
from lmexp.config.train import TrainConfig
from lmexp.errors import LmexpError, Stopped
from lmexp.runs.summary import one_line
from lmexp.training.start import train


def sweep(overrides: Sequence[str], *, plugins: Sequence[str], say: Callable[[str], None]) -> int:
    """Run every trial and return the exit code: 0, or that of the first trial that failed.

    Raises:
        ConfigError: before the first trial, with the problems of all.
    """
    given, overrides = overrides, with_source(overrides)
    compose_trials("train", overrides)
    codes: list[int] = []
    name = f"sweep-{datetime.now(UTC):%Y%m%d-%H%M%S}"

    def trial(composed: DictConfig) -> None:
        config = OmegaConf.to_object(composed)
        assert isinstance(config, TrainConfig)
        chosen = HydraConfig.get().overrides.task[len(overrides) - len(given) :]
        say(f"trial {len(codes) + 1}: {' '.join(chosen)}")
        try:
            run = train(config, command=["train", *chosen], plugins=plugins, say=say, own_process=True)
            run.update(sweeps=[*run.record.get("sweeps", []), name])
            say(f"  {one_line(run)}")
            codes.append(0)
        except Stopped as stopped:
            say(f"  {stopped}")
            raise SystemExit(stopped.exit_code) from None
        except LmexpError as error:
            say(f"  failed: {error}")
            codes.append(error.exit_code)

    register_schemas()
    argv, sys.argv = sys.argv, ["lmexp", "-m", *hydra_searchpath(overrides), *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(trial)()
    finally:
        sys.argv = argv
    say(f"next: lmexp compare {name}")
    return next((code for code in codes if code), 0)
