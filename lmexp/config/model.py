"""What is trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lmexp.config.schema import Option, setting


class Loss(Enum):
    """How the next-token loss is computed from hidden states; the value is the same."""

    auto = "auto"
    dense = "dense"
    fused = "fused"


@dataclass(kw_only=True)
class ModelConfig(Option):
    """What every model has."""

    group = "model"

    num_layers: int = setting(4, at_least=1)
    """Layers stacked on each other."""
    hidden_size: int = setting(256, at_least=1)
    """Width: numbers that stand for one token between the layers."""
    dropout: float = setting(0.0, at_least=0, below=1)
    """Share of activations dropped while training; 0 for data seen only a few times."""
    tie_embeddings: bool = setting(True)
    """Use the embedding matrix as the output matrix too: fewer parameters."""
    loss: Loss = setting(Loss.auto, identity=False)
    """dense keeps all logits; fused (torch's linear_cross_entropy) never holds them all, which saves time and memory at
    large vocabularies; auto takes fused where the logits are large, the precision is 32 and torch has it."""


@dataclass(kw_only=True)
class LSTMConfig(ModelConfig):
    """Embedding, stacked LSTM, output layer; the state is carried from batch to batch in contiguous order."""

    name = "lstm"
    builds = "lmexp.models.lstm:LSTM"

    num_layers: int = setting(2, at_least=1)
    """LSTM layers stacked on each other."""
    embedding_size: int | None = setting(None, at_least=1)
    """Width of the embedding; null takes hidden_size. With tied embeddings another width adds a projection."""
    output_bias: bool = setting(True)
    """Give the output layer a bias, which starts at the frequencies of the tokens in the training split."""


@dataclass(kw_only=True)
class TransformerConfig(ModelConfig):
    """Decoder in the shape of Qwen3: RoPE, RMSNorm, QK-norm, grouped-query attention, SwiGLU."""

    name = "transformer"
    builds = "lmexp.models.transformer:Transformer"

    num_heads: int = setting(4, at_least=1)
    """Attention heads."""
    num_key_value_heads: int | None = setting(None, at_least=1)
    """Heads of keys and values, each shared by several query heads; null takes num_heads."""
    head_size: int | None = setting(None, at_least=2)
    """Width of a head; null takes hidden_size / num_heads."""
    mlp_size: int | None = setting(None, at_least=1)
    """Width inside the feed-forward part; null takes 8/3 of hidden_size, rounded up to a multiple of 32."""
    qk_norm: bool = setting(True)
    """Normalise queries and keys in every head, which keeps attention stable at high learning rates."""
    rope_theta: float = setting(10_000.0, above=0)
    """Base of the rotary frequencies; larger for longer contexts."""
    norm_epsilon: float = setting(1e-6, above=0)
    """Added to the variance in RMSNorm."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.head_size is None and self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
        elif (self.head_size or self.hidden_size // self.num_heads) % 2:
            yield "head_size", "rotary positions need heads of even width"
        if self.num_key_value_heads and self.num_heads % self.num_key_value_heads:
            yield "num_key_value_heads", f"{self.num_heads} heads cannot share {self.num_key_value_heads} evenly"


@dataclass(kw_only=True)
class GPT2Config(ModelConfig):
    """Decoder in the shape of GPT-2 as nanoGPT trains it: learned positions, LayerNorm, GELU."""

    name = "gpt2"
    builds = "lmexp.models.gpt2:GPT2"

    num_heads: int = setting(4, at_least=1)
    """Attention heads."""
    bias: bool = setting(False)
    """Biases in linear layers and LayerNorms, as GPT-2 has them; nanoGPT trains without."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
