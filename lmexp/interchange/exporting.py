"""A folder of a run that others can read: Hugging Face's format, or safetensors with a description.

It appears whole or not at all, and never over something that is there already.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lmexp.checkpoints import LoadedRun, load_run
from lmexp.config.chat import ConversationsConfig
from lmexp.config.model import Kind, OwnModelConfig
from lmexp.data.templates import Turns, template_of
from lmexp.errors import ConfigError, RunError, StorageError
from lmexp.generation.forms import form_of
from lmexp.interchange import document
from lmexp.interchange.convert import family_of, to_published, write_config
from lmexp.interchange.model_card import model_card
from lmexp.interchange.pretrained import whole_model
from lmexp.interchange.reading import CONFIG, WEIGHTS
from lmexp.models.adapters import merge
from lmexp.models.pretrained import Pretrained
from lmexp.models.weights import outline
from lmexp.tokenization.export import write_hf_tokenizer


def export(run: str | Path, out: str | Path, *, to: str = "hf", checkpoint: str = "last") -> Path:
    """Write the model of a run to a new folder, as `hf` or as `safetensors`, and return the folder.

    Raises:
        RunError: there is no such run, it tells labels, or the folder is not empty.
        ConfigError: the model has no counterpart in transformers.
        StorageError: the disk is full or read-only.
    """
    writers = {"hf": _write_hf, "safetensors": _write_safetensors}
    if to not in writers:
        raise ConfigError(f"--to {to}: there is {' and '.join(writers)}")
    path = Path(out).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} is there already and not empty; give a new folder")
    loaded = load_run(run, checkpoint)
    if loaded.labels or loaded.tokenizer.source is not None:
        what = "tells labels" if loaded.labels else "has a tokenizer for sources and one for targets"
        raise RunError(f"{loaded.run.path.name} {what}, which no format of lmexp export has a place for")
    with _new_folder(path) as folder:
        writers[to](loaded, folder)
        (folder / "README.md").write_text(model_card(loaded, to, path.resolve().name), encoding="utf-8")
    return path


def _write_hf(loaded: LoadedRun, folder: Path) -> None:
    if isinstance(loaded.model, Pretrained):
        whole_model(loaded.model).save_pretrained(folder)
    else:
        _write_own_model(loaded, folder)
    template = loaded.config.data.template if isinstance(loaded.config.data, ConversationsConfig) else None
    turns = None if template is None else template_of(template, loaded.tokenizer)
    write_hf_tokenizer(
        loaded.tokenizer,
        folder,
        max_length=loaded.model.max_length,
        chat_template=turns.as_jinja() if isinstance(turns, Turns) else None,
    )


def _write_own_model(loaded: LoadedRun, folder: Path) -> None:
    config, tokenizer, max_length = loaded.config.model, loaded.tokenizer, loaded.model.max_length
    family = family_of(config)
    if family is None or not isinstance(config, OwnModelConfig):
        raise ConfigError(
            f"model={config.name} has no counterpart in transformers; lmexp export RUN --to safetensors writes its "
            "tensors with a description of all they do"
        )
    weights = merge(loaded.model)
    published = write_config(family, config, vocab_size=len(weights["embedding.weight"]), max_length=max_length or 0)
    end = tokenizer.end_of_document_id
    begin = getattr(tokenizer, "begin_of_text_id", None)
    special: dict[str, Any] = {
        "bos_token_id": end if begin is None else begin,
        "eos_token_id": end,
        "pad_token_id": None,
    }
    _write_json(folder / CONFIG, published | special)
    if config.kind is Kind.decoder:
        ends = sorted(form_of(loaded.config, tokenizer).ends)
        if len(ends) > 1:
            special["eos_token_id"] = ends
        given = {key: number for key, number in special.items() if number is not None}
        _write_json(folder / "generation_config.json", {"do_sample": True} | given)
    _save(to_published(family, config, weights), folder / WEIGHTS)


def _write_safetensors(loaded: LoadedRun, folder: Path) -> None:
    config, tokenizer, max_length = loaded.config.model, loaded.tokenizer, loaded.model.max_length
    if not isinstance(config, OwnModelConfig):
        raise ConfigError(f"model={config.name} is not built here; lmexp export RUN --to hf writes it as it came")
    weights = merge(loaded.model)
    vocab_size = len(weights["embedding.weight"])
    shapes, tied = outline(config, vocab_size=vocab_size, context_length=max_length or 1)
    tensors = {name: weights[name].float() for name in shapes}
    _save(tensors, folder / WEIGHTS)
    tokenizer.save(folder / document.TOKENIZER)
    content = document.describe(config, tensors, tied, tokenizer, max_length=max_length)
    write_hf_tokenizer(tokenizer, folder, max_length=max_length)
    content["vocabulary"] = document.vocabulary(folder / "tokenizer.json")
    _write_json(folder / document.NAME, content)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt"})  # transformers asks for this key


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes its name when all is written.

    Raises:
        StorageError: the disk is full or read-only.
    """
    path = path.absolute()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path}: {getattr(error, 'strerror', None) or error}; choose another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
