"""What the tests of the config share: the problems of a command line as people read them, and files of their own."""

import textwrap
from pathlib import Path

import pytest

from lmexp.config.compose import compose
from lmexp.errors import ConfigError

MODELS = (
    "transformer, bert, encoder, encoder_decoder, gpt2, gpt2_base, hf, lstm, lstm_article, "
    "lstm_attention, lstm_large, lstm_tiny, transformer_base, transformer_fast, "
    "transformer_small, transformer_tiny"
)


def problems(*overrides: str) -> list[str]:
    """Return what is wrong with a command line, a line each."""
    with pytest.raises(ConfigError) as caught:
        compose("train", overrides)
    return str(caught.value).split("\n")


def own(name: str, text: str) -> Path:
    """Write a file into the working folder's own conf/."""
    path = Path("conf") / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path
