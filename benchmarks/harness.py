"""A model through our evaluate and through the harness's own Hugging Face model: the same numbers to 4 decimals?

    python -m benchmarks.harness RUN FOLDER TASK.yaml [TASK.yaml ...] [--limit N]

RUN is an imported model, FOLDER the same one as transformers loads it.
"""

import argparse
import sys
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from lmexp.checkpoints import load_run
from lmexp.evaluation.harness import LONGEST, evaluate


def main() -> int:
    """Print every metric of every task on both sides; returns 1 where one differs in the 4th decimal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("folder")
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch-size", type=int, default=8, help="of theirs; long pages take 3 GB a row")
    options = parser.parse_args()
    ours = evaluate(options.run, options.tasks, limit=options.limit)["results"]
    theirs = simple_evaluate(
        model="hf",
        model_args=f"pretrained={options.folder},dtype=float32,max_length={_window(options.run)}",
        tasks=list(ours),
        device="cpu",
        batch_size=options.batch_size,
        limit=options.limit,
        task_manager=TaskManager(include_path=[str(Path(task).resolve().parent) for task in options.tasks]),
        bootstrap_iters=0,
        log_samples=False,
    )
    assert theirs is not None
    is_different = False
    for task, values in ours.items():
        for name, value in values.items():
            other = theirs["results"][task].get(f"{name},none")
            if isinstance(value, float) and isinstance(other, float) and not name.endswith("_stderr"):
                same = abs(value - other) < 0.5e-4 * max(1.0, abs(other))
                is_different = is_different or not same
                print(f"{task:<20} {name:<16} {value:.6f} {other:.6f} {'equal' if same else 'DIFFERENT'}", flush=True)
    return int(is_different)


def _window(run: str) -> int:
    """Return how many tokens the run reads at once."""
    model = load_run(run).model
    return model.max_length or LONGEST


if __name__ == "__main__":
    sys.exit(main())
