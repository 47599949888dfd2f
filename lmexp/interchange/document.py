"""model.json beside model.safetensors: all that somebody needs to write a reader without lmexp.

It says what each tensor is, the equations that use them, and what each token stands for; lmexp itself reads only
`format`, `config` and `sizes`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lmexp import __version__
from lmexp.config.model import ModelConfig
from lmexp.config.schema import OPTIONS
from lmexp.config.store import option_from_dict, to_dict
from lmexp.errors import DataError, RunError
from lmexp.interchange.equations import equations
from lmexp.interchange.reading import read_json
from lmexp.tokenization import Tokenizer

NAME, TOKENIZER = "model.json", "lmexp_tokenizer.json"
FORMAT = "lmexp-model-1"
SIZES = ("num_layers", "num_encoder_layers", "_heads", "hidden_size", "embedding_size", "head_size", "mlp_size")


def describe(
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    tied: Mapping[str, str],
    tokenizer: Tokenizer,
    *,
    max_length: int | None,
) -> dict[str, Any]:
    """Return what model.json holds."""
    values = to_dict(config)
    return {
        "format": FORMAT,
        "about": "A language model. model.safetensors holds `tensors` (float32); `equations` say how they are used; "
        "token number i stands for vocabulary[i]; tokenizer.json splits text into tokens as the library Hugging Face "
        f"tokenizers does; {TOKENIZER} is the same for lmexp.",
        "written_by": f"lmexp {__version__}",
        "architecture": config.name,
        "sizes": {"vocab_size": len(tensors["embedding.weight"]), "max_length": max_length}
        | {key: value for key, value in values.items() if value and key.endswith(SIZES)},
        "equations": equations(config),
        "tensors": {name: list(tensor.shape) for name, tensor in tensors.items()},
        "tied": dict(tied),
        "end_of_document_id": tokenizer.end_of_document_id,
        "vocabulary": [],
        "config": values,
    }


def vocabulary(tokenizer_json: Path) -> list[str]:
    """Return the token of each number, as a tokenizer.json of Hugging Face writes it."""
    content = read_json(tokenizer_json)
    listed = content["model"]["vocab"]
    numbers = dict(listed) if isinstance(listed, dict) else {piece: i for i, (piece, _) in enumerate(listed)}
    numbers |= {token["content"]: token["id"] for token in content["added_tokens"]}
    names = {number: token for token, number in numbers.items()}
    return [names.get(number, "") for number in range(max(names) + 1)]


def read(path: Path) -> tuple[Any, int, int | None]:
    """Return the model's config, the rows of its embedding and the most tokens that one row can have.

    Raises:
        DataError: the file is not one of ours, or lacks something.
    """
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: its format is {content.get('format')!r}, and this lmexp reads {FORMAT!r}")
    try:
        config: ModelConfig = option_from_dict(OPTIONS["model"], content["config"], str(path))
        vocab_size, max_length = content["sizes"]["vocab_size"], content["sizes"]["max_length"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} lacks {error}") from None
    except RunError as error:
        raise DataError(str(error)) from None
    if not isinstance(vocab_size, int) or not isinstance(max_length, int | None):
        raise DataError(f"{path}: vocab_size and max_length must be whole numbers")
    return config, vocab_size, max_length
