"""Folders of safetensors and GGUF files, read with transformers: offline, no pickle, no code of the model's own.

What a config.json says about where code, kernels or other files are is left out before transformers sees it, so that
such a file is data. Every tensor must be there, in its shape, and no others, else the file is refused in one line.
"""

import contextlib
import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmexp.config.pretrained import Head, HFConfig
from lmexp.errors import ConfigError, DataError, MissingPackageError, Problem

AUTO_CLASSES = {
    Head.causal: "AutoModelForCausalLM",
    Head.masked: "AutoModelForMaskedLM",
    Head.features: "AutoModel",
    Head.classification: "AutoModelForSequenceClassification",
    Head.seq2seq: "AutoModelForSeq2SeqLM",
}
NOT_TAKEN = ("auto_map", "quantization_config", "transformers_weights", "fusion_config", "distributed_config")
OF_OTHER_HEADS = ("pooler", "seq_relationship")
"""Parts that BERT is published with and that no task here uses."""
MOST_NAMES = 3


def from_files(config: HFConfig) -> Any:
    """Return the transformers model of a folder or a .gguf file, in fp32 and in evaluation mode.

    On the meta device it has no weights.

    Raises:
        ConfigError: the folder is not one that is read here.
        DataError: tensors are missing, too many, of other shapes, or cut short.
    """
    problems = [Problem(f"model.{key}", text) for key, text in config.check()]
    if problems:
        raise ConfigError(problems)
    path = config.path
    if path.is_file():
        described = _gguf_config(path)
    else:
        described = _config_of(json.loads((path / "config.json").read_text(encoding="utf-8")), str(path))
    if torch.get_default_device().type == "meta":
        return _model_class(config.head, described).from_config(described)
    return _load(path, config.head, described)


def from_architecture(head: Head, architecture: dict[str, Any]) -> Any:
    """Return a model with new weights, in fp32 and in evaluation mode.

    Raises:
        DataError: transformers does not know it.
    """
    described = _config_of(architecture, "architecture.json")
    with _quiet():
        return _model_class(head, described).from_config(described, dtype=torch.float32).eval()


@torch.no_grad()
def grow(whole: Any, vocab_size: int) -> None:
    """Give a model rows for more tokens, each of which begins as the mean of the others."""
    rows = whole.get_input_embeddings().weight.shape[0]
    whole.resize_token_embeddings(vocab_size, mean_resizing=False)
    output = whole.get_output_embeddings()
    for layer in (whole.get_input_embeddings(), output):
        for weight in (getattr(layer, "weight", None), getattr(layer, "bias", None)):
            if weight is not None and not weight.is_meta:
                weight[rows:] = weight[:rows].mean(dim=0)


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return (config, weights) of a .gguf file, dequantized to fp32 and named as Hugging Face names them.

    Raises:
        DataError: it is no GGUF file, cut short, or of an architecture that transformers does not read.
    """
    described = _gguf_config(path)
    model = _load(path, Head.causal, described)
    return described.to_dict(), {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _load(path: Path, head: Head, described: Any) -> Any:
    model_class = _model_class(head, described)
    options: dict[str, Any] = {"use_safetensors": True, "ignore_mismatched_sizes": True}
    if path.is_file():
        from transformers.utils.quantization_config import GgufConfig

        options = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}
    with _quiet(), _readable(path):
        model, info = model_class.from_pretrained(
            str(path.parent if path.is_file() else path),
            config=described,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    _require_all_tensors(path, head, model, info)
    return model.float().eval()


def _require_all_tensors(path: Path, head: Head, model: Any, info: dict[str, Any]) -> None:
    """Raise unless the file has the tensors of the model and no others.

    Raises:
        DataError: naming some of them, with shapes.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [
        f"{name} is {tuple(found)}, expected {tuple(wanted)}" for name, found, wanted in sorted(info["mismatched_keys"])
    ]
    missing = [name for name in sorted(info["missing_keys"]) if not _is_of_other_head(name)]
    prefix = f"{model.base_model_prefix}."
    extra = [name for name in sorted(info["unexpected_keys"]) if not _is_of_other_head(name)]
    if head is Head.features and any(name.startswith(prefix) for name in _tensor_shapes(path)):
        extra = [name for name in extra if name.startswith(prefix)]
    found_shapes = _tensor_shapes(path) if extra else {}
    lines = [
        _some(wrong, ""),
        _some([f"{name} {shapes.get(name, '')}".strip() for name in missing], "missing: "),
        _some([f"{name} {found_shapes.get(name, '')}".strip() for name in extra], "not expected: "),
        *info.get("error_msgs", [])[:1],
    ]
    if any(lines):
        problem = "; ".join(filter(None, lines))
        hint = "; for an encoder without a head take model.head=features" if missing and head is Head.masked else ""
        raise DataError(f"{path}: not the weights of the {model.config.model_type} that it describes: {problem}{hint}")


def _some(texts: list[str], before: str) -> str:
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return f"{before}{', '.join(texts[:MOST_NAMES])}{more}" if texts else ""


def _is_of_other_head(name: str) -> bool:
    return any(part in OF_OTHER_HEADS for part in name.split("."))


def _tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a folder of safetensors, {} for a .gguf file."""
    from safetensors import safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def _config_of(described: dict[str, Any], where: str) -> Any:
    """Return transformers' config object of the content of a config.json."""
    _transformers()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = str(described.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise DataError(f"{where}: transformers does not know the architecture {model_type!r}")
    data = {key: value for key, value in described.items() if key not in NOT_TAKEN and not key.startswith("_")}
    with _quiet():
        try:
            return CONFIG_MAPPING[model_type].from_dict(data)
        except Exception as error:  # each architecture checks its config in ways of its own
            raise DataError(f"{where}: its config is not that of a {model_type} ({_first_line(error)})") from None


def _gguf_config(path: Path) -> Any:
    transformers = _transformers()
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise DataError(f"{path}: not a GGUF file, which begins with the letters GGUF")
    with _quiet(), _readable(path):
        return transformers.AutoConfig.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )


def _model_class(head: Head, described: Any) -> Any:
    """Return the Auto class that reads such a model for such a head.

    Raises:
        DataError: the architecture has no such head.
    """
    from transformers.models.auto import modeling_auto

    auto_class = getattr(modeling_auto, AUTO_CLASSES[head])
    if type(described) not in auto_class._model_mapping:
        fits = [h.name for h in Head if type(described) in getattr(modeling_auto, AUTO_CLASSES[h])._model_mapping]
        raise DataError(f"a {described.model_type} has no head {head.name}; it has: {', '.join(fits) or 'none'}")
    return auto_class


def _transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import transformers
        except ImportError:
            raise MissingPackageError("transformers", "hf") from None
    return transformers


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what libraries say about a damaged file into one line.

    Raises:
        DataError: instead of whatever they raised.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        raise MissingPackageError("gguf" if "gguf" in str(error) else "accelerate", "hf") from None
    except (SafetensorError, ValueError, IndexError, KeyError, OSError, RuntimeError, TypeError, struct.error) as error:
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
        raise DataError(
            f"{path}{size}: cannot be read, it may be cut short; copy it again ({_first_line(error)})"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from talking to the terminal."""
    _transformers()
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
