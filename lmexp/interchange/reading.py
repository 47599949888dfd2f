"""Read a folder that somebody else wrote: config.json and safetensors, whole or in parts; never a pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lmexp.errors import DataError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataError: there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold keys and values")
    return content


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder.

    Raises:
        DataError: there are none, a part is missing, or a file is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            part = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path} is damaged, or no safetensors file ({error}); get it anew") from None
        if twice := sorted(tensors.keys() & part.keys()):
            raise DataError(f"{path} holds {twice[0]} again, which another part has")
        tensors |= part
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and not name.endswith((".bias", "position_ids")):  # masks of old GPT-2 files
            raise DataError(f"{folder}: {name} is of type {str(tensor.dtype).removeprefix('torch.')}, not of floats")
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder.

    Raises:
        DataError: there are none, or a part is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        parts = read_json(folder / INDEX).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
            raise DataError(f"{folder / INDEX} has no weight_map of names")
        files = [folder / name for name in sorted(set(parts.values()))]
        outside = [path for path in files if path.parent != folder]
        if outside:
            raise DataError(f"{folder / INDEX}: {outside[0]} is not a file of this folder")
        if missing := [path.name for path in files if not path.is_file()]:
            raise DataError(f"{folder}: {', '.join(missing)} is missing, which {INDEX} names")
        return files
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickles:
        raise DataError(
            f"{folder} has {pickles[0]} only, which could run code when it is loaded; save the model as safetensors "
            "where it comes from: model.save_pretrained(DIR)"
        )
    raise DataError(f"{folder} has no {WEIGHTS}")


def content_hash(paths: list[Path]) -> str:
    """Return 12 hexadecimal digits of the content of files."""
    digest = hashlib.blake2b(digest_size=6)
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise when a weight is not a number.

    Raises:
        DataError: naming the first such tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DataError(f"{name} holds values that are not finite numbers")
