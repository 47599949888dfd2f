"""Speed of sampling beside nanoGPT and transformers: the same shape of model, the same number of characters.

A decoder of 4 layers, width 128, 4 heads, context 512 and 65 characters writes 500 characters from one line end, at
temperature 0.8 among the 200 likeliest, as nanoGPT's sample.py does. nanoGPT writes as its sample.py calls it, one
sample after the other; transformers with its cache, all in one batch. lmexp's time includes the text, the others' stop
at ids.
"""

import contextlib
import io
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import AGAIN, OURS, Benchmark, Quantities
from benchmarks.nanogpt import model_module
from lmexp.config import build
from lmexp.config.model import GPT2Config, TransformerConfig
from lmexp.config.tokenizer import CharactersConfig
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.tokenization import learn

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 4, 128, 4, 512, 65
TOKENS, BATCH_SIZES = 500, (1, 32)
TEMPERATURE, TOP_K = 0.8, 200
CHARACTERS = ("\n" + string.ascii_letters + string.punctuation)[:VOCABULARY]
TIMED_ONE_BY_ONE = 2
"""Of nanoGPT's samples that come one after the other so many are timed; the others cost the same."""

Side = Callable[[int, int], float]
"""Writes so many texts of so many tokens and returns the seconds."""


def lmexp_side(config: GPT2Config | TransformerConfig) -> Side:
    """Return our way: `complete`, all samples in one batch."""
    tokenizer = learn(CharactersConfig(byte_fallback=False, end_of_document=False), [CHARACTERS])
    model = build(config, vocab_size=tokenizer.vocab_size, context_length=CONTEXT).eval()

    def side(batch_size: int, tokens: int) -> float:
        sampling = Sampling(max_tokens=tokens, temperature=TEMPERATURE, top_k=TOP_K)
        start = time.perf_counter()
        texts = list(
            complete(model, Continuation(tokenizer), ["\n"], sampling, num_samples=batch_size, batch_size=batch_size)
        )
        seconds = time.perf_counter() - start
        assert [len(text.text) for text in texts] == [tokens] * batch_size
        return seconds

    return side


def transformers_sides() -> dict[str, Side]:
    """Return transformers' generate with its cache, for GPT-2 and for Qwen3; nothing if it is not installed."""
    try:
        import transformers
    except ImportError:
        return {}
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    gpt2 = transformers.GPT2Config(
        n_layer=LAYERS, n_embd=WIDTH, n_head=HEADS, n_positions=CONTEXT, activation_function="gelu", **sizes
    )
    qwen3 = transformers.Qwen3Config(
        num_hidden_layers=LAYERS,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH // HEADS,
        intermediate_size=TransformerConfig(hidden_size=WIDTH).mlp_width,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        **sizes,
    )
    return {
        "transformers": _transformers_side(transformers.GPT2LMHeadModel(gpt2).eval()),
        "transformers, Qwen3": _transformers_side(transformers.Qwen3ForCausalLM(qwen3).eval()),
    }


def _transformers_side(model: Any) -> Side:
    def side(batch_size: int, tokens: int) -> float:
        prompts = torch.ones(batch_size, 1, dtype=torch.long)
        start = time.perf_counter()
        ids = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=TOP_K,
            max_new_tokens=tokens,
            use_cache=True,
        )
        seconds = time.perf_counter() - start
        assert ids.shape == (batch_size, 1 + tokens)
        return seconds

    return side


def nanogpt_side(checkout: Path) -> Side:
    """Return nanoGPT's generate as its sample.py calls it."""
    module = model_module(checkout)
    with contextlib.redirect_stdout(io.StringIO()):
        config = module.GPTConfig(
            block_size=CONTEXT, vocab_size=VOCABULARY, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, dropout=0, bias=False
        )
        model = module.GPT(config).eval()

    def side(batch_size: int, tokens: int) -> float:
        timed = min(batch_size, TIMED_ONE_BY_ONE)
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(timed):
                model.generate(torch.zeros(1, 1, dtype=torch.long), tokens, temperature=TEMPERATURE, top_k=TOP_K)
        return (time.perf_counter() - start) / timed * batch_size

    return side


@contextmanager
def of_text(checkout: Path, *, threads: int) -> Iterator[Benchmark]:
    """500 characters, one text and 32 at once; models in the shape of GPT-2 and of Qwen3."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    gpt2 = GPT2Config(num_layers=LAYERS, hidden_size=WIDTH, num_heads=HEADS)
    qwen3 = TransformerConfig(num_layers=LAYERS, hidden_size=WIDTH, num_heads=HEADS)
    sides = {
        OURS: lmexp_side(gpt2),
        f"{OURS}, Qwen3": lmexp_side(qwen3),
        **transformers_sides(),
        "nanoGPT, sample.py": nanogpt_side(checkout),
        AGAIN: lmexp_side(gpt2),
    }
    yield Benchmark(
        counts="sampling in this process, after a short one that does not count",
        sides={name: _in_all_sizes(side) for name, side in sides.items()},
    )


def _in_all_sizes(side: Side) -> Callable[[int], Quantities]:
    def measured(round_number: int) -> Quantities:
        if round_number == 0:
            side(max(BATCH_SIZES), 8)
        return {f"{size}_texts_seconds": side(size, TOKENS) for size in BATCH_SIZES}

    return measured
