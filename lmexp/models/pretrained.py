"""A model of Hugging Face's transformers, held to the contract of a language model.

The model is taken apart: what makes hidden states is `base` (and `encoder`), and what is left of it is the head
(`pretrained_head.py`). On a few tokens each model then proves that it keeps the contract, with a state and with
documents kept apart; one that does not is refused by name. `pretrained_files.py` reads the files.
Shapes: B rows, T tokens, S tokens of the source, or so far, C hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lmexp.config.model import Kind
from lmexp.config.pretrained import Head as HeadName
from lmexp.config.pretrained import HFConfig
from lmexp.errors import ConfigError, DataError, Problem
from lmexp.models.documents import document_mask, positions_in_segments
from lmexp.models.layers import place, real_tokens_first
from lmexp.models.pretrained_files import from_architecture, from_files, grow
from lmexp.models.pretrained_head import Labels, WholeHead, embedding_head, take_out
from lmexp.models.pretrained_state import PretrainedState
from lmexp.models.state import NEEDS_SOURCE, LanguageModel, matrix_flops

LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")


class Pretrained(LanguageModel):
    """A causal model, an encoder, an encoder-decoder or a classifier, in fp32.

    `architecture` is the content of a config.json; with it the weights are new, for a checkpoint brings them.
    """

    def __init__(
        self,
        config: HFConfig,
        *,
        vocab_size: int,
        context_length: int,
        architecture: dict[str, Any] | None = None,
        num_new_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        whole = from_files(config) if architecture is None else from_architecture(config.head, architecture)
        self.reads_both_ways = config.kind is Kind.encoder
        self.name = f"{config.name_or_path} ({whole.config.model_type})"
        rows = whole.get_input_embeddings().weight.shape[0]
        self.has_grown = rows < vocab_size <= rows + num_new_tokens
        if self.has_grown:
            grow(whole, vocab_size)
        self.hf_config = whole.config
        if config.kind is Kind.encoder_decoder:
            self.first_target_id = first_target_id(whole)
        self.architecture: dict[str, Any] = whole.config.to_dict()
        self.first_position = _first_position(whole)
        lengths = (getattr(whole.config, key, None) for key in LENGTHS)
        rows = next((length for length in lengths if length), None)
        self.max_length = rows and rows - self.first_position
        self._require_room(whole, vocab_size, context_length)
        tokens_1T = _some_tokens(whole)
        is_meta = tokens_1T.is_meta
        try:
            expected = None if is_meta else _own_logits(whole, tokens_1T, config.kind)
            self._take_apart(whole)
            if expected is not None:
                self._prove(tokens_1T, expected)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{self.name} cannot be used with model.head={config.head.name}: {reason}") from None
        self.train()  # transformers hands models over in evaluation mode, and Lightning leaves them in it

    def forward(self, tokens_BT: Tensor, state: Any = None, segments_BT: Tensor | None = None) -> tuple[Tensor, Any]:
        if self.config.kind is Kind.encoder:
            return self._read_both_ways(tokens_BT, segments_BT), None
        if self.config.kind is Kind.encoder_decoder:
            return self._decode(tokens_BT, state, segments_BT), state
        if self.config.kind is Kind.classifier:
            raise ValueError("a classifier gives no hidden states; call classify")
        inputs = {} if state is None else {"past_key_values": state.cache}
        positions, mask = place(tokens_BT, state, segments_BT, as_tensor=True)
        if mask is not None:
            assert isinstance(mask, Tensor)
            inputs |= self._apart(positions, mask)
        if state is not None:
            state.read(tokens_BT.shape[1])
        output = self.base(input_ids=tokens_BT, use_cache=state is not None, **inputs)
        return output.last_hidden_state, state

    def encode(self, source_BS: Tensor, mask_BS: Tensor | None = None, *, max_length: int = 0) -> PretrainedState:
        """Return the state that a source has been read into; see `SourceModel.encode`."""
        source_BS, mask_BS = real_tokens_first(source_BS, mask_BS)
        state = PretrainedState(self.hf_config, max_length, has_source=True)
        encoded = self.encoder(input_ids=source_BS, attention_mask=mask_BS.long())
        state.source_BSC, state.source_mask_BS = encoded.last_hidden_state, mask_BS
        return state

    def classify(self, tokens_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Return the scores of every label; `mask_BT` is true where a row is not padding, which comes last.

        Shape: (B, T), (B, T) -> (B, labels).
        """
        mask = None if mask_BT is None else mask_BT.long()
        return self.base(input_ids=tokens_BT, attention_mask=mask).logits

    def new_state(self, batch_size: int, max_length: int) -> PretrainedState:
        if self.config.kind is Kind.encoder_decoder:
            raise ValueError(NEEDS_SOURCE)
        if self.config.kind is not Kind.decoder:
            raise ValueError(f"a model of kind {self.config.kind.name} has no state")
        return PretrainedState(self.hf_config, max_length)

    def flops_per_token(self, context_length: int) -> float:
        described = self.hf_config.get_text_config()
        layers, width = described.num_hidden_layers, described.hidden_size
        return matrix_flops(self) + 12.0 * layers * width * context_length

    def _take_apart(self, whole: Any) -> None:
        """Make `base`, `encoder` and `head` of a whole model."""
        kind = self.config.kind
        if kind is Kind.classifier:
            self.base, self.head = whole, Labels()
        elif self.config.head is HeadName.features:
            self.base, self.head = _without_pooler(whole), embedding_head(whole, self.config.loss)
        else:
            output = whole.get_output_embeddings()
            if kind is Kind.encoder_decoder:
                self.encoder = take_out(whole, whole.get_encoder())
            self.base = take_out(whole, whole.base_model if kind is Kind.encoder else _decoder(whole))
            self.head = WholeHead(whole, output, is_decoder=kind is Kind.encoder_decoder, loss=self.config.loss)

    def _read_both_ways(self, tokens_BT: Tensor, segments_BT: Tensor | None) -> Tensor:
        inputs = {}
        if segments_BT is not None:
            inputs = self._apart(positions_in_segments(segments_BT), document_mask(segments_BT, causal=False))
        return self.base(input_ids=tokens_BT, **inputs).last_hidden_state

    def _decode(self, tokens_BT: Tensor, state: PretrainedState | None, segments_BT: Tensor | None) -> Tensor:
        if state is None:
            raise ValueError(NEEDS_SOURCE)
        assert state.source_BSC is not None
        if segments_BT is not None:
            raise ValueError(f"{self.name} does not keep documents of a target apart")
        is_cached = state.max_length > 0
        if is_cached:
            state.read(tokens_BT.shape[1])
        assert state.source_mask_BS is not None
        return self.base(
            input_ids=tokens_BT,
            encoder_hidden_states=state.source_BSC,
            encoder_attention_mask=state.source_mask_BS.long(),
            past_key_values=state.cache if is_cached else None,
            use_cache=is_cached,
        ).last_hidden_state

    def _apart(self, positions_BT: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return positions and mask as the model takes them.

        The mask is what is added to scores, which every attention of transformers understands.

        Raises:
            ConfigError: the model looks back on fewer tokens than the mask has, which a mask of ours would undo.
        """
        described = self.hf_config.get_text_config()
        windows = [getattr(described, key, None) for key in ("sliding_window", "local_attention")]
        window = min((size for size in windows if size), default=None)
        if window is not None and mask.shape[-1] > window:
            raise ConfigError(f"{self.name} looks back on {window} tokens, and keeps documents apart up to there only")
        dtype = next(self.base.parameters()).dtype
        added = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
        return {"position_ids": positions_BT + self.first_position, "attention_mask": added}

    def _require_room(self, whole: Any, vocab_size: int, context_length: int) -> None:
        rows = whole.get_input_embeddings().weight.shape[0]
        if vocab_size > rows:
            problem = (
                f"it has {vocab_size:,} tokens, and the model's embedding {rows:,} rows: they do not belong together"
            )
            raise ConfigError([Problem("tokenizer", f"{problem}; tokenizer=hf takes the model's own")])
        if self.max_length is not None and context_length > self.max_length:
            raise ConfigError([Problem("data.context_length", f"{self.name} reads at most {self.max_length} tokens")])

    @torch.no_grad()
    def _prove(self, tokens_1T: Tensor, expected: Tensor) -> None:
        """Raise unless the parts give what the whole gave, with a state and with documents kept apart too."""
        kind, middle = self.config.kind, tokens_1T.shape[1] // 2
        if kind is Kind.classifier:
            return
        state = self.encode(tokens_1T) if kind is Kind.encoder_decoder else None
        hidden, _ = self(tokens_1T, state)
        scores = hidden if self.config.head is HeadName.features else self.head.logits(hidden)
        _require_equal(scores, expected, "its output layer works in a way that is not known here")
        if isinstance(self.head, WholeHead):
            self.head.is_linear = self.head.equals_linear(hidden, expected)
        first, second = tokens_1T[:, :middle], tokens_1T[:, middle:]
        if kind is not Kind.encoder:
            length = tokens_1T.shape[1]
            state = self.encode(tokens_1T, max_length=length) if state else self.new_state(1, length)
            parts = [self(part, state)[0] for part in (first, second)]
            _require_equal(torch.cat(parts, dim=1), hidden, "it does not go on from a key-value cache")
        if kind is not Kind.encoder_decoder:
            segments_1T = (torch.arange(tokens_1T.shape[1]) >= middle).long()[None]
            apart = torch.cat([self(part)[0] for part in (first, second)], dim=1)
            _require_equal(self(tokens_1T, None, segments_1T)[0], apart, "it does not keep documents apart")


def _decoder(whole: Any) -> nn.Module:
    decoder = whole.get_decoder()
    return whole.base_model if decoder is whole or decoder is None else decoder


def _without_pooler(whole: Any) -> nn.Module:
    if getattr(whole, "pooler", None) is not None:
        whole.pooler = None  # it sees the first token only, and no loss here reaches it
    return whole


def first_target_id(whole: Any) -> int | None:
    """Return the token that a model begins its targets with, as its config or that of its generation says."""
    described = (whole.config, getattr(whole, "generation_config", None))
    ids = (getattr(config, "decoder_start_token_id", None) for config in described)
    return next((number for number in ids if number is not None), None)


def _first_position(whole: Any) -> int:
    """Return the row of the position table that the first token takes: RoBERTa's begin after that of padding."""
    tables = (module for name, module in whole.named_modules() if name.endswith("position_embeddings"))
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return 0 if padding is None else padding + 1


def _some_tokens(whole: Any, count: int = 6) -> Tensor:
    """Return one row of tokens to prove a model with, none of which is padding."""
    weight = whole.get_input_embeddings().weight
    ids = [i for i in range(min(len(weight), 3 * count)) if i != getattr(whole.config, "pad_token_id", None)]
    return torch.tensor([ids[-count:]], device=weight.device)


@torch.no_grad()
def _own_logits(whole: Any, tokens_1T: Tensor, kind: Kind) -> Tensor:
    """Return what the model itself says about tokens; of an encoder without a head, its hidden states."""
    inputs = {"decoder_input_ids": tokens_1T} if kind is Kind.encoder_decoder else {}
    output = whole(input_ids=tokens_1T, **inputs)
    return output.last_hidden_state if hasattr(output, "last_hidden_state") else output.logits


def _require_equal(actual: Tensor, expected: Tensor, otherwise: str) -> None:
    scale = expected.abs().max().clamp(min=1.0)
    if actual.shape != expected.shape or not ((actual - expected).abs().max() <= 1e-4 * scale):
        raise ValueError(otherwise)
