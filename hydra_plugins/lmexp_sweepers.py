"""Our sweepers, where Hydra looks for them. Both start workers through the launcher; what a worker does is in
`lmexp/sweeps`. Hydra imports this at every start, so nothing heavy is imported here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig

from lmexp.config.sweep import PRUNERS, SAMPLERS


class WorkerSweeper(Sweeper):
    """Starts workers, each of which takes trials of the sweep until none is left."""

    def __init__(self, **settings: Any) -> None:
        self.launcher: Any = None
        self.job: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.job = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        workers: Sequence[Sequence[str]] = [[] for _ in range(self.job.num_workers)]
        returned = self.launcher.launch(workers, initial_job_idx=0)
        self.job.outcomes = [job.return_value for job in returned]  # this raises what a worker has raised


@dataclass
class GridSweeperConf:
    """hydra/sweeper=lmexp: every combination of the values on the command line."""

    _target_: str = "hydra_plugins.lmexp_sweepers.WorkerSweeper"


@dataclass
class OptunaSweeperConf:
    """hydra/sweeper=optuna: a search by Optuna."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "none"}])
    _target_: str = "hydra_plugins.lmexp_sweepers.WorkerSweeper"
    n_trials: int | None = None
    sampler: Any = MISSING
    pruner: Any = MISSING


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="lmexp", node=GridSweeperConf, provider="lmexp")
_store.store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="lmexp")
for _part, _options in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
    for _name, _schema in _options.items():
        _store.store(group=f"hydra/sweeper/{_part}", name=_name, node=_schema(name=_name), provider="lmexp")
