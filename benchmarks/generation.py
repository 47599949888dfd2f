"""Speed of sampling beside nanoGPT and transformers: the same shape of model, the same number of characters, one run.

    python -m benchmarks.generation [--nanogpt CHECKOUT] [--batch-size 1 32] [--rounds 5] [--clock wall|cpu]

A decoder of 4 layers, width 128, 4 heads, context 512 and 65 characters writes 500 characters from one line end, at
temperature 0.8 among the 200 likeliest, as nanoGPT's sample.py does. Each round runs every side once, in an order that
alternates: lmexp, lmexp again (the A/A control), transformers' generate with its cache, nanoGPT as its sample.py calls
it (one sample after the other) and in one batch; and both ours and transformers' in the shape of Qwen3. lmexp's time
includes the text, the others' stop at ids. Prints the median over the rounds of each side's time / lmexp's time.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import statistics
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lmexp.config import build
from lmexp.config.model import GPT2Config, TransformerConfig
from lmexp.config.tokenizer import CharactersConfig
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from lmexp.tokenization import learn

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 4, 128, 4, 512, 65
TEMPERATURE, TOP_K = 0.8, 200
CHARACTERS = ("\n" + string.ascii_letters + string.punctuation)[:VOCABULARY]
TIMED_ONE_BY_ONE = 2
"""Of nanoGPT's samples that come one after the other so many are timed; the others cost the same."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock: Callable[[], float] = time.perf_counter

Side = Callable[[int, int], float]
"""Writes so many texts of so many tokens and returns the seconds."""


def lmexp_side(config: GPT2Config | TransformerConfig) -> Side:
    """Return our way: `complete`, all samples in one batch."""
    tokenizer = learn(CharactersConfig(byte_fallback=False, end_of_document=False), [CHARACTERS])
    model = build(config, vocab_size=tokenizer.vocab_size, context_length=CONTEXT).eval()

    def side(batch_size: int, tokens: int) -> float:
        sampling = Sampling(max_tokens=tokens, temperature=TEMPERATURE, top_k=TOP_K)
        start = clock()
        texts = list(complete(model, tokenizer, ["\n"], sampling, num_samples=batch_size, batch_size=batch_size))
        seconds = clock() - start
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
        start = clock()
        ids = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=TOP_K,
            max_new_tokens=tokens,
            use_cache=True,
        )
        seconds = clock() - start
        assert ids.shape == (batch_size, 1 + tokens)
        return seconds

    return side


def nanogpt_sides(checkout: Path) -> dict[str, Side]:
    """Return nanoGPT's generate as its sample.py calls it, and in one batch."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()):
        config = module.GPTConfig(
            block_size=CONTEXT, vocab_size=VOCABULARY, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, dropout=0, bias=False
        )
        model = module.GPT(config).eval()

    def batched(batch_size: int, tokens: int) -> float:
        start = clock()
        with torch.no_grad():
            model.generate(torch.zeros(batch_size, 1, dtype=torch.long), tokens, temperature=TEMPERATURE, top_k=TOP_K)
        return clock() - start

    def one_by_one(batch_size: int, tokens: int) -> float:
        timed = min(batch_size, TIMED_ONE_BY_ONE)
        return sum(batched(1, tokens) for _ in range(timed)) / timed * batch_size

    return {"nanoGPT, sample.py": one_by_one, "nanoGPT, one batch": batched}


def measure(sides: dict[str, Side], batch_size: int, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side in each round, after a short one that does not count."""
    for side in sides.values():
        side(batch_size, 8)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            seconds[name].append(sides[name](batch_size, tokens))
    return seconds


def table(seconds: dict[str, list[float]], batch_size: int, tokens: int) -> list[dict[str, Any]]:
    """Print a line for each side, and return the same as rows."""
    rows = []
    print(f"\nbatch {batch_size}{'':<16} seconds  characters/s   x lmexp [lowest, highest round]")
    for name, values in seconds.items():
        ratios = [value / ours for value, ours in zip(values, seconds["lmexp"], strict=True)]
        median, ratio = statistics.median(values), statistics.median(ratios)
        low, high = min(ratios), max(ratios)
        rows.append({"batch_size": batch_size, "side": name, "seconds": values, "median": median, "ratio": ratio})
        speed = batch_size * tokens / median
        print(f"{name:<22} {median:9.3f} {speed:13,.0f} {ratio:9.2f} [{low:.2f}, {high:.2f}]")
    return rows


def main() -> None:
    """Run the rounds and print a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT; without one it is left out")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu repeats better on a busy machine")
    parser.add_argument("--json", type=Path, help="write all seconds to this file")
    arguments = parser.parse_args()
    global clock
    clock = CLOCKS[arguments.clock]
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    gpt2 = GPT2Config(num_layers=LAYERS, hidden_size=WIDTH, num_heads=HEADS)
    sides = {
        "lmexp": lmexp_side(gpt2),
        "lmexp again": lmexp_side(gpt2),
        "lmexp, Qwen3": lmexp_side(TransformerConfig(num_layers=LAYERS, hidden_size=WIDTH, num_heads=HEADS)),
        **transformers_sides(),
        **(nanogpt_sides(arguments.nanogpt) if arguments.nanogpt else {}),
    }
    rows = []
    for batch_size in arguments.batch_size:
        here = {name: side for name, side in sides.items() if batch_size > 1 or name != "nanoGPT, one batch"}
        seconds = measure(here, batch_size, arguments.tokens, arguments.rounds)
        rows += table(seconds, batch_size, arguments.tokens)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"threads": arguments.threads, "clock": arguments.clock, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
