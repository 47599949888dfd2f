"""A run of a folder from elsewhere, from which texts can be generated, which can be evaluated and fine-tuned.

The run is done at step 0: it has weights, a tokenizer and a config as any other, and run.json says where it comes from.
The same files make the same run; what does not fit together is refused before a folder is made.
"""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lmexp import checkpoints
from lmexp.config.data import PythonDocsConfig
from lmexp.config.model import Kind, OwnModelConfig
from lmexp.config.task import MaskedConfig, PretrainConfig
from lmexp.config.tokenizer import HFTokenizerConfig
from lmexp.config.train import TrainConfig
from lmexp.errors import DataError
from lmexp.interchange import document
from lmexp.interchange.convert import from_published, read_config
from lmexp.interchange.reading import (
    CONFIG,
    content_hash,
    read_json,
    read_tensors,
    require_finite,
    weight_files,
)
from lmexp.models.adapters import num_tokens
from lmexp.models.weights import compare, outline
from lmexp.runs import RunFolder
from lmexp.runs.folder import now
from lmexp.runs.provenance import provenance
from lmexp.tokenization import Tokenizer, learn, load

CONTEXT_LENGTH = 256
"""Tokens in a row when the run is evaluated or fine-tuned and nothing else is asked for."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""Files that transformers makes a tokenizer of."""


@dataclass(frozen=True)
class Import:
    """All that was read from elsewhere."""

    architecture: str
    config: OwnModelConfig
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer
    files: Sequence[Path]
    max_length: int | None


def import_run(
    source: str | Path,
    *,
    name: str | None = None,
    project: str = "lmexp",
    output_dir: str | Path = "outputs",
    command: Sequence[str] = (),
) -> tuple[RunFolder, bool]:
    """Return the run of a folder or a .gguf file, and whether it is new.

    Raises:
        DataError: something is missing, damaged, or has no counterpart here; says what.
    """
    path = Path(source).expanduser()
    with _said_with(path):
        found = _read(path)
        config = _config(found, name or _name(path), project, str(output_dir))
        require_finite(found.weights)
        weights = _complete(found, config)
        digest = content_hash(list(found.files))
    run = RunFolder(Path(output_dir) / project / f"{config.display_name}-{digest}")
    if run.record.get("status") == "done":
        return run, False
    run.create(config)
    found.tokenizer.save(run.tokenizer)
    checkpoints.write(run.checkpoints / "step-000000", weights)
    run.update(
        id=uuid.uuid4().hex[:8],
        project=project,
        name=config.display_name,
        created=now(),
        seed=config.seed,
        command=list(command),
        status="done",
        step=0,
        tokens=0,
        parameters=sum(tensor.numel() for tensor in found.weights.values()),
        tokenizer_hash=found.tokenizer.hash,
        imported={"path": str(path.resolve()), "architecture": found.architecture, "content": digest},
        **provenance(),
    )
    return run, True


def _read(path: Path) -> Import:
    if path.suffix == ".gguf" and path.is_file():
        return _read_gguf(path)
    if not path.is_dir():
        what = "is no folder" if path.exists() else "nothing is there"
        raise DataError(f"{what}; give a folder with config.json and safetensors, or a .gguf file")
    return _read_ours(path) if (path / document.NAME).is_file() else _read_published(path)


def _read_published(folder: Path) -> Import:
    family, config = read_config(read_json(folder / CONFIG))
    weight_files(folder)  # no weights is said before the tokenizer
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise DataError(f"{folder} has no tokenizer.json")
    tokenizer = learn(HFTokenizerConfig(name_or_path=str(folder.resolve())), ())
    weights = from_published(family, config, read_tensors(folder))
    files = [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja", ".model", ".txt")]
    return Import(family.architecture, config, weights, tokenizer, sorted(files), _max_positions(config))


def _read_ours(folder: Path) -> Import:
    config, vocab_size, max_length = document.read(folder / document.NAME)
    tensors = read_tensors(folder)
    shapes, _ = outline(config, vocab_size=vocab_size, context_length=max_length or 1)
    compare(shapes, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    tokenizer = load(folder / document.TOKENIZER)
    files = [folder / document.NAME, folder / document.TOKENIZER, *weight_files(folder)]
    config = replace(config, vocab_size=vocab_size)
    return Import(config.name, config, tensors, tokenizer, files, max_length)


def _read_gguf(path: Path) -> Import:
    from lmexp.models.pretrained_files import read_gguf

    published, tensors = read_gguf(path)
    family, config = read_config(published)
    weights = from_published(family, config, tensors)
    tokenizer = learn(HFTokenizerConfig(name_or_path=str(path.resolve())), ())
    return Import(family.architecture, config, weights, tokenizer, [path], _max_positions(config))


def _config(found: Import, name: str, project: str, output_dir: str) -> TrainConfig:
    """Return the config of the run.

    Raises:
        DataError: the tokenizer has more tokens than the embedding has rows.
    """
    is_encoder = found.config.kind is Kind.encoder
    longest = found.max_length or CONTEXT_LENGTH
    config = TrainConfig(
        project=project,
        name=name,
        output_dir=output_dir,
        data=PythonDocsConfig(context_length=min(CONTEXT_LENGTH, longest)),
        tokenizer=found.tokenizer.config,
        model=found.config,
        task=MaskedConfig() if is_encoder else PretrainConfig(),
    )
    tokens, rows = num_tokens(config, found.tokenizer), found.config.vocab_size or 0
    if tokens > rows:
        mask = " (its mask token included)" if is_encoder else ""
        raise DataError(f"the tokenizer does not match: it has {tokens} tokens{mask}, the embedding {rows} rows")
    return config


def _complete(found: Import, config: TrainConfig) -> dict[str, Tensor]:
    """Return the weights as a model has them, tied ones under each of their names."""
    weights = dict(found.weights)
    _, tied = outline(config.model, vocab_size=found.config.vocab_size or 0, context_length=config.data.context_length)
    return weights | {name: weights[same] for name, same in tied.items()}


def _max_positions(config: Any) -> int | None:
    return getattr(config, "max_positions", None)


def _name(path: Path) -> str:
    """Return a name for the run, as a folder can have it."""
    return re.sub(r"[^\w.+-]+", "-", path.resolve().stem if path.suffix == ".gguf" else path.resolve().name).strip("-.")


@contextmanager
def _said_with(path: Path) -> Iterator[None]:
    """Put the path before what is wrong with it."""
    try:
        yield
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from None
