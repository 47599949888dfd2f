"""data.batch_size=auto: how many rows of a micro-step fit in the memory of this machine.

Memory is foretold (`memory.py`), not tried out, so nothing has to fail first; on a GPU too, where what is foretold are
the tensors. The rows of an optimizer step, and their order, do not depend on how they are cut into micro-steps.
"""

from bisect import bisect_left
from pathlib import Path

import torch

from lmexp.config.train import TrainConfig
from lmexp.config.trainer import Accelerator
from lmexp.data.corpus import Corpus
from lmexp.errors import ConfigError
from lmexp.runs.summary import in_bytes
from lmexp.training.costs import count
from lmexp.training.memory import num_devices
from lmexp.training.resident import available_bytes

MARGIN = 0.85
"""Share of the free memory that is used: what is foretold is right within 15 %."""


def largest_batch_size(
    config: TrainConfig,
    corpus: Corpus | None = None,
    architecture: Path | None = None,
    *,
    limit_bytes: int | None = None,
) -> int:
    """Return the largest divisor of `data.global_batch_size` whose micro-step fits in memory on every device.

    `limit_bytes` is the memory of one device; without it, the share of this machine's that is free.

    Raises:
        ConfigError: not even the smallest fits, or the memory of this model cannot be foretold.
    """
    whole, devices = config.rows_per_step, num_devices(config)
    limit = int(MARGIN * _free_bytes(config)) if limit_bytes is None else limit_bytes
    sizes = [rows for rows in range(devices, whole + 1, devices) if whole % rows == 0]

    def foretold(rows: int) -> int:
        memory = count(config.settled(rows), corpus, architecture).memory
        if memory is None:
            raise ConfigError("data.batch_size: the memory of this model cannot be foretold; give a number, not auto")
        return memory.total

    fitting = bisect_left(sizes, True, key=lambda rows: foretold(rows) > limit)
    if fitting == 0:
        needed = in_bytes(foretold(sizes[0]))
        raise ConfigError(
            f"data.batch_size=auto: {sizes[0]} rows take {needed}, and {in_bytes(limit)} are free; lower "
            "data.evaluation_batch_size or data.context_length, or set trainer.activation_checkpointing=true"
        )
    return sizes[fitting - 1]


def _free_bytes(config: TrainConfig) -> int:
    """Return the memory that one device can use; processes on a CPU share it."""
    if config.trainer.accelerator is Accelerator.gpu:
        free, _ = torch.cuda.mem_get_info()
        return free
    return available_bytes() // num_devices(config)
