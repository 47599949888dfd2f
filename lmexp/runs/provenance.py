"""Where a run comes from: the code, the packages, the machine."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "omegaconf", "sentencepiece", "safetensors", "numpy", "wandb")
SOURCE = Path(__file__).parents[1]


def source_hash(plugins: Sequence[str] = ()) -> str:
    """Return 12 hexadecimal digits of lmexp's own sources and of plug-in files."""
    digest = hashlib.blake2b(digest_size=6)
    files = sorted(SOURCE.rglob("*.py"))
    files += [Path(name) for name in plugins if name.endswith(".py") and Path(name).is_file()]
    for path in files:
        name = path.relative_to(SOURCE) if path.is_relative_to(SOURCE) else path.name
        digest.update(f"{name} {hashlib.blake2b(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def weights_hash(path: Path) -> str:
    """Return 16 hexadecimal digits of a pretrained model: of its config and weights, or of one file."""
    names = ("config.json", "*.safetensors")
    files = [path] if path.is_file() else sorted(file for name in names for file in path.glob(name))
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.hexdigest()


def provenance(plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Return what run.json keeps about code, packages and machine."""
    return {
        "git": git_state(),
        "source_hash": source_hash(plugins),
        "plugins": list(plugins),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
        "pid": os.getpid(),
    }


@cache
def git_state() -> dict[str, Any] | None:
    """Return the commit of the working folder and whether it has changes, None outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
