"""From the config of a run to its model: the one door that training, loading and measuring go through.

What is not to be trained is frozen by name, and low-rank adapters (peft's) are put beside linear layers, in our own
models and in those of transformers alike.
"""

import fnmatch
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmexp.config.check import did_you_mean
from lmexp.config.model import Kind, LoRAConfig
from lmexp.config.pretrained import HFConfig
from lmexp.config.schema import build
from lmexp.config.task import ClassifyConfig
from lmexp.config.train import TrainConfig
from lmexp.errors import ConfigError, MissingPackageError, Problem, RunError
from lmexp.models.classifier import LabelHead, with_label_head
from lmexp.models.layers import ResidualBlock
from lmexp.models.pretrained import Pretrained
from lmexp.models.state import LanguageModel
from lmexp.tokenization import Tokenizer
from lmexp.tokenization.base import WithSpecialTokens

ADAPTER = "default"
"""The name that peft gives to the one set of adapters."""


def build_model(
    config: TrainConfig, tokenizer: Tokenizer, architecture: Path | None = None, *, labels: Sequence[str] = ()
) -> LanguageModel:
    """Return the model of a run, with new weights, or with those of `model.name_or_path`; with labels one that scores
    them.

    Where a checkpoint brings the weights, `architecture` is the file of the run that says what a pretrained model is
    made of (`RunFolder.architecture`), so that the folder it came from is not needed.

    Raises:
        ConfigError: parts or layers that the model does not have are to be frozen or adapted, or nothing is trained.
    """
    runtime: dict[str, Any] = {}
    if isinstance(config.model, HFConfig) and architecture is not None and architecture.is_file():
        runtime["architecture"] = _read(architecture)
    if isinstance(config.model, HFConfig) and isinstance(tokenizer, WithSpecialTokens):
        runtime["num_new_tokens"] = len(tokenizer.names)
    if tokenizer.source is not None:
        runtime["source_vocab_size"] = tokenizer.source.vocab_size
    model: LanguageModel = build(
        config.model,
        vocab_size=num_tokens(config, tokenizer),
        context_length=config.data.context_length,
        **runtime,
    )
    if isinstance(config.task, ClassifyConfig):
        with_label_head(model, config.task, len(labels))
    if config.trainer.activation_checkpointing:
        recompute(model)
    freeze(model, config.model.frozen)
    if config.model.lora.rank is not None:
        add_adapters(model, config.model.lora)
        if isinstance(model.head, LabelHead):
            model.head.requires_grad_(True)  # nobody has trained it before
    if isinstance(model, Pretrained) and model.has_grown:
        require_trained_embedding(model)
    return model


def require_trained_embedding(model: LanguageModel) -> None:
    """Raise unless new tokens of a vocabulary would be trained.

    Raises:
        ConfigError: the embedding or the head stays as it is.
    """
    if not model.head.weight.requires_grad:
        message = "adds tokens to the model, whose embedding is not trained; take data.template=plain or alpaca"
        raise ConfigError([Problem("data.template", message)])


def recompute(model: LanguageModel) -> None:
    """Keep no activations inside blocks in training, but compute them again."""
    base: Any = getattr(model, "base", None)
    if base is not None:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            module.recomputes = True


def freeze(model: LanguageModel, patterns: list[str]) -> None:
    """Keep the parameters that a pattern names from being trained.

    Raises:
        ConfigError: a pattern names none, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    problems = [
        Problem("model.frozen", f"no parameter is called {pattern}{_nearest(pattern, names)}")
        for pattern in patterns
        if not fnmatch.filter(names, pattern)
    ]
    if problems:
        raise ConfigError(problems)
    for name, parameter in model.named_parameters():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError([Problem("model.frozen", "nothing is left to train")])


def add_adapters(model: LanguageModel, config: LoRAConfig) -> None:
    """Put adapters beside linear layers; from then on only they are trained.

    Source: Hu et al. 2021, section 4.1.

    Raises:
        ConfigError: the model has no such layers.
    """
    names = list(linear_layers(model))
    kinds = sorted({_last(name) for name in names})
    if not names:
        raise ConfigError([Problem("model.lora.rank", "the model has no linear layer but its head to put adapters on")])
    problems = [
        Problem("model.lora.targets", f"no linear layer is called {target}; there are: {', '.join(kinds)}")
        for target in config.targets
        if target not in kinds
    ]
    if problems:
        raise ConfigError(problems)
    chosen = [name for name in names if not config.targets or _last(name) in config.targets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPT-2's matrices lie the other way, which peft sees to itself
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise MissingPackageError("peft", "hf") from None
        adapters = LoraConfig(
            r=config.rank or 1,
            lora_alpha=config.alpha,  # type: ignore[arg-type]  # a float serves as well
            lora_dropout=config.dropout,
            target_modules="|".join(map(re.escape, chosen)),
        )
        inject_adapter_in_model(adapters, model, ADAPTER)
    model.train(model.training)  # the adapters too


def linear_layers(model: LanguageModel) -> Iterator[str]:
    """Yield the names of the linear layers but those of the head, GPT-2's of transformers included."""
    for name, module in model.named_modules():
        is_linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        if is_linear and not name.startswith("head."):
            yield name


@torch.no_grad()
def merge(model: LanguageModel) -> dict[str, Tensor]:
    """Return the weights of a model as if it had no adapters, what they learned added to the layers they are on."""
    weights = {}
    for name, tensor in model.state_dict().items():
        layer_name, is_adapted, of_layer = name.partition(".base_layer.")
        if ".lora_" in name:
            continue
        if is_adapted and of_layer == "weight":
            adapted: Any = model.get_submodule(layer_name)
            tensor = tensor + adapted.get_delta_weight(ADAPTER)
        weights[f"{layer_name}.{of_layer}" if is_adapted else name] = tensor
    return weights


def under_adapters(model: LanguageModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model without adapters as this one names them, with its own adapters."""
    own = model.state_dict()
    names = {name.replace(".base_layer.", "."): name for name in own}
    adapters = {name: tensor for name, tensor in own.items() if ".lora_" in name}
    return adapters | {names.get(name, name): tensor for name, tensor in weights.items()}


def num_trainable(model: LanguageModel) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _read(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); copy it from an intact run folder") from None
    if not isinstance(described, dict):
        raise RunError(f"{path} does not describe a model; copy it from an intact run folder")
    return described


def _nearest(pattern: str, names: list[str]) -> str:
    """Return what there is instead: the nearest part of the model, else its parts."""
    wanted = pattern.rstrip(".*")
    prefixes = {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}
    guess = did_you_mean(wanted, sorted(prefixes | set(names)))
    return guess or f"; there are: {', '.join(dict.fromkeys(name.split('.')[0] + '.*' for name in names))}"


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def num_tokens(config: TrainConfig, tokenizer: Tokenizer) -> int:
    """Return how many tokens the model of a run knows: an encoder knows the mask too, which few tokenizers have."""
    tokens = tokenizer.vocab_size
    if config.model.kind is Kind.encoder:
        tokens = max(tokens, mask_id(tokenizer) + 1)
    return max(tokens, getattr(config.model, "vocab_size", None) or 0)


def mask_id(tokenizer: Tokenizer) -> int:
    """Return the id that stands for a masked token: the tokenizer's own, or the first after its vocabulary."""
    return tokenizer.vocab_size if tokenizer.mask_id is None else tokenizer.mask_id
