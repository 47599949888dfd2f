"""nanoGPT as a peer, from a checkout of a user: trained by its own train.py, its loss taken the way ours is.

Nothing of it is copied: its files are linked into a folder, beside a text in its format.
"""

import importlib.util
import json
import pickle
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.measure import Quantities
from benchmarks.process import Finished, python

FILES = ("train.py", "model.py", "configurator.py", "config")
VAL_FRACTION = 0.1
CPU_RECIPE = {
    "device": "cpu",
    "compile": False,
    "eval_iters": 20,
    "log_interval": 100,
    "block_size": 64,
    "batch_size": 12,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "max_iters": 2000,
    "lr_decay_iters": 2000,
    "dropout": 0.0,
}
"""What its README says for a CPU; all else is in its config/train_shakespeare_char.py."""


def model_module(checkout: Path) -> ModuleType:
    """Return its model.py, imported."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def folder(checkout: Path, text: Path) -> Iterator[Path]:
    """Yield a folder in which its train.py finds the characters of a text, as its prepare.py writes them."""
    with tempfile.TemporaryDirectory() as name:
        for file in FILES:
            (Path(name) / file).symlink_to((checkout / file).resolve())
        data = Path(name) / "data" / "shakespeare_char"
        data.mkdir(parents=True)
        content = text.read_text(encoding="utf-8")
        characters = sorted(set(content))
        ids = np.searchsorted(np.array(characters), np.array(list(content))).astype(np.uint16)
        border = int(len(ids) * (1 - VAL_FRACTION))
        ids[:border].tofile(data / "train.bin")
        ids[border:].tofile(data / "val.bin")
        meta = {
            "vocab_size": len(characters),
            "itos": dict(enumerate(characters)),
            "stoi": {character: i for i, character in enumerate(characters)},
        }
        (data / "meta.pkl").write_bytes(pickle.dumps(meta))
        yield Path(name)


def train(inside: Path, options: Mapping[str, object], *, seed: int, threads: int) -> Quantities:
    """Return what a run of its train.py takes, as a whole process, and the loss it reaches on the second half."""
    arguments = [f"--{key}={value}" for key, value in {**CPU_RECIPE, **options}.items()]
    source = (inside / "train.py").read_text()
    seeded = source.replace("torch.manual_seed(1337 + seed_offset)", f"torch.manual_seed({1337 + seed} + seed_offset)")
    if seed and seeded == source:
        raise RuntimeError("this nanoGPT sets its seed in another way than is known here")
    (inside / "seeded.py").write_text(seeded)
    finished = python(["seeded.py", "config/train_shakespeare_char.py", *arguments], inside, threads=threads)
    steps, tokens = int(str(options.get("max_iters", CPU_RECIPE["max_iters"]))), 12 * 64
    return {
        "tokens": (steps + 1) * tokens,
        "wall_seconds": finished.wall_seconds,
        "peak_bytes": finished.peak_bytes,
        "test_loss_nats": loss(inside),
    }


def loss(inside: Path) -> float:
    """Return its mean loss over the second half of its validation split, every character but the first once."""
    finished: Finished = python(["-m", "benchmarks.nanogpt", str(inside)], inside)
    return json.loads(finished.output.splitlines()[-1])["loss_nats"]


def _evaluate(inside: Path) -> float:
    import torch

    from benchmarks.losses import mean_loss  # torch

    module = model_module(inside)
    stored = torch.load(inside / "out-shakespeare-char" / "ckpt.pt", map_location="cpu", weights_only=True)
    model = module.GPT(module.GPTConfig(**stored["model_args"]))
    model.load_state_dict({key.removeprefix("_orig_mod."): value for key, value in stored["model"].items()})
    model.eval()
    ids = np.fromfile(inside / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16)

    def logits_of(tokens_BT: torch.Tensor) -> torch.Tensor:
        return model(tokens_BT, tokens_BT)[0]  # with targets it gives the logits of all positions

    return mean_loss(logits_of, ids[int(len(ids) * 0.5) :], stored["model_args"]["block_size"])


if __name__ == "__main__":
    print(json.dumps({"loss_nats": _evaluate(Path(sys.argv[1]))}))
