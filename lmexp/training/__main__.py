"""`python -m lmexp.training RUN`: one rank of DDP, or a trial of a sweep, begun by `start`, which holds the run."""

import sys
from pathlib import Path

from lmexp.config.plugins import load_plugins
from lmexp.errors import LmexpError
from lmexp.runs import RunFolder
from lmexp.training.start import loading


def train(run: RunFolder) -> int:
    """Train a run that `start` holds and return the exit code."""
    load_plugins(run.record.get("plugins", []))
    with loading():
        from lmexp.training.loop import train_from_folder

    try:
        train_from_folder(run)
    except LmexpError as error:
        return error.exit_code
    except Exception:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(train(RunFolder(Path(sys.argv[1]))))
