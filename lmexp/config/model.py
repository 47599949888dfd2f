"""What is trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from lmexp.config.schema import Option, Settings, setting


class Loss(Enum):
    """How the next-token loss is computed from hidden states; the value is the same."""

    auto = "auto"
    dense = "dense"
    chunked = "chunked"


class Kind(Enum):
    """What a model reads and gives, which says what tasks it fits."""

    decoder = "decoder"
    """Reads from left to right and scores the next token."""
    encoder = "encoder"
    """Reads both ways and scores the tokens it reads."""
    encoder_decoder = "encoder_decoder"
    """Reads a source both ways, and from there on is a decoder."""
    classifier = "classifier"
    """Reads both ways or one, and scores labels (of Hugging Face only)."""


class GELU(Enum):
    """How the Gaussian error linear unit is computed."""

    exact = "exact"
    tanh = "tanh"


class Attention(Enum):
    """How an LSTM decoder looks at its source."""

    bahdanau = "bahdanau"
    luong = "luong"


class MLP(Enum):
    """The feed-forward part of a block."""

    relu2 = "relu2"
    """Two matrices with the square of a ReLU between (So et al. 2021)."""
    swiglu = "swiglu"
    """Three matrices, one of them a gate (Shazeer 2020)."""


@dataclass(kw_only=True)
class LoRAConfig(Settings):
    """Low-rank adapters (Hu et al. 2021): the weights stay as they are, and small matrices beside them are trained."""

    rank: int | None = setting(None, at_least=1)
    """Rank of the adapters; null trains the model itself."""
    alpha: float = setting(16.0, above=0)
    """Scale of the adapters: what they add is multiplied by alpha / rank."""
    dropout: float = setting(0.0, at_least=0, below=1)
    """Share of an adapter's inputs dropped while training."""
    targets: list[str] = setting(default_factory=list)
    """Linear layers that get an adapter, by the last part of their names such as [query,value]; empty takes every
    linear layer but the head."""


@dataclass(kw_only=True)
class ModelConfig(Option):
    """What every model has."""

    group = "model"
    kind: ClassVar[Kind] = Kind.decoder
    has_blocks: ClassVar[bool] = True
    """Whether it is made of a Transformer's blocks, which can be recomputed and shared among devices."""

    lora: LoRAConfig = setting(default_factory=LoRAConfig)
    """Train low-rank adapters instead of the weights."""
    frozen: list[str] = setting(default_factory=list)
    """Parts that are not trained, as patterns over parameter names: [embedding.*,blocks.0.*]."""
    loss: Loss = setting(Loss.auto, identity=False)
    """dense keeps all logits; chunked holds those of some hundred tokens at a time, which saves time and memory with
    large vocabularies; auto takes chunked where the logits are large and the model is not compiled."""


@dataclass(kw_only=True)
class OwnModelConfig(ModelConfig):
    """What every model has that is built here from its sizes."""

    has_position_table: ClassVar[bool] = False
    """Whether positions are learned, so that no row can be longer than the table of them."""

    num_layers: int = setting(4, at_least=1)
    """Layers stacked on each other."""
    hidden_size: int = setting(256, at_least=1)
    """Width: numbers that stand for one token between the layers."""
    dropout: float = setting(0.0, at_least=0, below=1)
    """Share of activations dropped while training; 0 for data seen only a few times."""
    tie_embeddings: bool = setting(True)
    """Use the embedding matrix as the output matrix too: fewer parameters."""
    vocab_size: int | None = setting(None, at_least=1)
    """Rows of the embedding where there are more than tokens, as some published models have; null takes the tokens. A
    multiple of 64 is faster on a GPU: 50304 for GPT-2's 50,257."""


@dataclass(kw_only=True)
class LSTMConfig(OwnModelConfig):
    """Embedding, stacked LSTM, output layer; the state is carried from batch to batch in contiguous order."""

    name = "lstm"
    builds = "lmexp.models.lstm:LSTM"
    has_blocks = False

    num_layers: int = setting(2, at_least=1)
    """LSTM layers stacked on each other."""
    embedding_size: int | None = setting(None, at_least=1)
    """Width of the embedding; null takes hidden_size. With tied embeddings another width adds a projection."""
    output_bias: bool = setting(True)
    """Give the output layer a bias, which starts at the frequencies of the tokens in the training split."""
    input_dropout: float | None = setting(None, at_least=0, below=1)
    """Dropout on the embedded tokens; null takes dropout."""
    hidden_dropout: float | None = setting(None, at_least=0, below=1)
    """Dropout between the layers; null takes dropout, which then is left for the output."""
    variational_dropout: bool = setting(False)
    """Drop the same activations at every step of a row, as AWD-LSTM does."""
    embedding_dropout: float = setting(0.0, at_least=0, below=1)
    """Share of the vocabulary whose embeddings are dropped, everywhere in a batch."""
    weight_dropout: float = setting(0.0, at_least=0, below=1)
    """Share of the hidden-to-hidden weights dropped in each batch (DropConnect)."""
    activation_penalty: float = setting(0.0, at_least=0)
    """Weight of the mean square of the outputs in the loss (AWD-LSTM's alpha)."""
    temporal_penalty: float = setting(0.0, at_least=0)
    """Weight of the mean square of the change of the outputs from step to step in the loss (AWD-LSTM's beta)."""
    adaptive_cutoffs: list[int] = setting(default_factory=list)
    """Adaptive softmax: tokens from the first of these numbers on are scored in groups, each only where it is needed:
    [2000,10000]. Faster with large vocabularies whose ids go by frequency (tokenizer=words); empty scores all."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        cutoffs = self.adaptive_cutoffs
        if any(second <= first for first, second in zip([0, *cutoffs], cutoffs, strict=False)):
            yield "adaptive_cutoffs", "must be positive numbers, each larger than the one before"


@dataclass(kw_only=True)
class TransformerConfig(OwnModelConfig):
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
    max_positions: int | None = setting(None, at_least=1)
    """Most tokens the model looks back on when it generates; null takes data.context_length."""

    @property
    def mlp_width(self) -> int:
        """Width inside the feed-forward part."""
        return self.mlp_size or 32 * math.ceil(self.hidden_size * 8 / 3 / 32)

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.head_size is None and self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
        elif (self.head_size or self.hidden_size // self.num_heads) % 2:
            yield "head_size", "rotary positions need heads of even width"
        if self.num_key_value_heads and self.num_heads % self.num_key_value_heads:
            yield "num_key_value_heads", f"{self.num_heads} heads cannot share {self.num_key_value_heads} evenly"


@dataclass(kw_only=True)
class TransformerFastConfig(OwnModelConfig):
    """Decoder that learns most from the fewest tokens; transformers has no counterpart. docs/recipe.md has the worth of
    each choice."""

    name = "transformer_fast"
    builds = "lmexp.models.transformer_fast:TransformerFast"

    num_heads: int = setting(4, at_least=1)
    """Attention heads."""
    mlp: MLP = setting(MLP.relu2)
    """relu2 or swiglu: the feed-forward part."""
    mlp_size: int | None = setting(None, at_least=1)
    """Width inside the feed-forward part; null takes four times hidden_size for relu2, 8/3 of it for swiglu."""
    qk_norm: bool = setting(True)
    """Normalise queries and keys in every head, which keeps attention stable at high learning rates."""
    shift_taps: int = setting(2, at_least=0)
    """Causal token shift: so many tokens before each are mixed into what attention and feed-forward part read, channel
    by channel; 0 for none."""
    zero_init: bool = setting(True)
    """Begin with zeros in what writes to the residual stream, and in an untied head."""
    tie_embeddings: bool = setting(False)
    """Use the embedding matrix as the output matrix too: fewer parameters, and slower to learn."""
    rope_theta: float = setting(10_000.0, above=0)
    """Base of the rotary frequencies; larger for longer contexts."""
    max_positions: int | None = setting(None, at_least=1)
    """Most tokens the model looks back on when it generates; null takes data.context_length."""

    @property
    def mlp_width(self) -> int:
        """Width inside the feed-forward part."""
        if self.mlp is MLP.relu2:
            return self.mlp_size or 4 * self.hidden_size
        return self.mlp_size or 32 * math.ceil(self.hidden_size * 8 / 3 / 32)

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
        elif self.hidden_size // self.num_heads % 2:
            yield "num_heads", "rotary positions need heads of even width"


@dataclass(kw_only=True)
class GPT2Config(OwnModelConfig):
    """Decoder in the shape of GPT-2 as nanoGPT trains it: learned positions, LayerNorm, GELU."""

    name = "gpt2"
    builds = "lmexp.models.gpt2:GPT2"
    has_position_table = True

    num_heads: int = setting(4, at_least=1)
    """Attention heads."""
    bias: bool = setting(False)
    """Biases in linear layers and LayerNorms, as GPT-2 has them; nanoGPT trains without."""
    gelu: GELU = setting(GELU.exact)
    """exact, as nanoGPT has it, or tanh, the approximation of the published GPT-2."""
    max_positions: int | None = setting(None, at_least=1)
    """Rows in the table of positions; null takes data.context_length."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"


@dataclass(kw_only=True)
class EncoderConfig(TransformerConfig):
    """Encoder of the same layers as the decoder, reading both ways: RoPE, RMSNorm, QK-norm, SwiGLU."""

    name = "encoder"
    builds = "lmexp.models.encoder:Encoder"
    kind = Kind.encoder


@dataclass(kw_only=True)
class BERTConfig(OwnModelConfig):
    """Encoder in the shape of BERT: learned positions and token types, norm after each part, GELU."""

    name = "bert"
    builds = "lmexp.models.bert:BERT"
    has_position_table = True
    kind = Kind.encoder

    num_heads: int = setting(4, at_least=1)
    """Attention heads."""
    mlp_size: int | None = setting(None, at_least=1)
    """Width inside the feed-forward part; null takes four times hidden_size."""
    num_token_types: int = setting(2, at_least=1)
    """Rows in the table of token types; only the first is used here."""
    norm_epsilon: float = setting(1e-12, above=0)
    """Added to the variance in LayerNorm."""
    gelu: GELU = setting(GELU.exact)
    """exact, as BERT has it, or tanh, an approximation."""
    max_positions: int | None = setting(None, at_least=1)
    """Rows in the table of positions; null takes data.context_length."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.hidden_size % self.num_heads:
            yield "num_heads", f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"


@dataclass(kw_only=True)
class EncoderDecoderConfig(GPT2Config):
    """Encoder-decoder Transformer of GPT-2's layers: a source read both ways, and cross-attention to it."""

    name = "encoder_decoder"
    builds = "lmexp.models.encoder_decoder:EncoderDecoder"
    kind = Kind.encoder_decoder

    num_encoder_layers: int | None = setting(None, at_least=1)
    """Layers of the encoder; null takes num_layers."""


@dataclass(kw_only=True)
class LSTMAttentionConfig(OwnModelConfig):
    """LSTM encoder-decoder with attention: a bidirectional encoder, and a decoder that looks back at it."""

    name = "lstm_attention"
    builds = "lmexp.models.lstm_attention:LSTMAttention"
    kind = Kind.encoder_decoder
    has_blocks = False

    num_layers: int = setting(2, at_least=1)
    """LSTM layers of the encoder, and of the decoder."""
    embedding_size: int | None = setting(None, at_least=1)
    """Width of the embedding; null takes hidden_size."""
    attention: Attention = setting(Attention.luong)
    """luong: the outputs of the decoder look at the source (general score), all steps at once. bahdanau: before each
    step the decoder looks at the source (additive score) and reads what it saw; slower."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.hidden_size % 2:
            yield "hidden_size", "must be even: each direction of the encoder has half of it"
