"""A text depends on its prompt and its seed, never on the texts that are written beside it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from lmexp.config.model import Kind
from lmexp.errors import DataError
from lmexp.generation.forms import Continuation
from lmexp.generation.rows import Rows
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, complete, sample
from tests.generation.setups import AfterSource, letters, letters_and_end, new_model
from tests.models.setups import DECODERS, ENCODER_DECODERS, assert_close, small

EVERY_DECODER = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())
EVERY_OPTION = pytest.mark.parametrize("config", small(Kind.decoder).values(), ids=small(Kind.decoder).keys())
PROMPTS = ["a", "the quick brown", "hello", "zebra crossing.", "mm"]
DRAWN = Sampling(max_tokens=40, temperature=1.0, top_p=0.95, repetition_penalty=1.1, seed=5)


@EVERY_OPTION
@pytest.mark.parametrize("context_length", [64, 16])
def test_a_text_in_a_batch_equals_the_text_alone(config: Any, context_length: int) -> None:
    tokenizer = letters_and_end()  # texts end early, at different steps
    model = new_model(config, tokenizer, context_length)
    together = list(complete(model, Continuation(tokenizer), PROMPTS, DRAWN, num_samples=3))
    alone = [
        one
        for prompt in PROMPTS
        for seed in (5, 6, 7)
        for one in complete(model, Continuation(tokenizer), [prompt], dataclasses.replace(DRAWN, seed=seed))
    ]
    assert together == alone
    assert len({len(one.tokens) for one in together}) > 3
    assert {one.finish_reason for one in together} == {"end", "length"}


@EVERY_OPTION
def test_the_size_of_the_batch_changes_nothing_but_the_speed(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer)
    by_four = list(complete(model, Continuation(tokenizer), PROMPTS, DRAWN, num_samples=2, batch_size=4))
    by_one = list(complete(model, Continuation(tokenizer), PROMPTS, DRAWN, num_samples=2, batch_size=1))
    assert by_four == by_one
    assert [(one.prompt, one.seed) for one in by_four] == [(prompt, seed) for prompt in PROMPTS for seed in (5, 6)]


@EVERY_DECODER
def test_cached_and_uncached_scores_agree_for_prompts_of_different_length(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer)
    texts = [tokenizer.encode(prompt).tolist() for prompt in PROMPTS]
    rows = Rows(model, texts, max_tokens=20)
    for step in range(20):
        scores = torch.from_numpy(rows.scores().copy())
        for row, ids in enumerate(rows.ids):
            with torch.no_grad():
                alone = model.head.logits(model(torch.tensor([ids]))[0])[0, -1]
            assert_close(scores[row], alone)
        if step == 9:
            rows.select([3, 0, 0, 4])
        rows.append(np.arange(len(rows.ids)) + step)


@EVERY_DECODER
def test_a_step_without_modules_equals_the_model(config: Any) -> None:
    model = new_model(config, letters())
    step = model.stepper()
    if step is None:
        pytest.skip("this model has none")
    tokens = torch.randint(28, (3, 12), generator=torch.Generator().manual_seed(0))
    segments = (torch.arange(6) >= torch.tensor([[0], [5], [2]])).long()
    with torch.no_grad():
        _, one = model(tokens[:, :6], model.new_state(3, 12), segments)
        _, other = model(tokens[:, :6], model.new_state(3, 12), segments)
        for t in range(6, 12):
            expected, one = model(tokens[:, t : t + 1], one)
            hidden, other = step(tokens[:, t : t + 1], other)
            assert_close(hidden, expected)


def test_a_hook_or_an_adapter_keeps_a_model_from_leaving_its_modules_out() -> None:
    model = new_model(DECODERS["gpt2"], letters())
    assert model.stepper() is not None
    handle = model.blocks[0].mlp.up.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert model.stepper() is None
    handle.remove()
    model.blocks[0].mlp.up = torch.nn.Sequential(model.blocks[0].mlp.up)
    assert model.stepper() is None


def test_a_prompt_that_cannot_be_read_is_said_before_anything_is_written() -> None:
    tokenizer = letters()
    model = new_model(DECODERS["gpt2"], tokenizer)
    with pytest.raises(DataError, match="the prompt 'É': 'É'"):
        next(complete(model, Continuation(tokenizer), ["a", "É"], DRAWN, batch_size=1))


@pytest.mark.parametrize("config", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS.keys())
def test_an_encoder_decoder_goes_on_from_the_state_of_its_sources(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer, context_length=16)
    sources = torch.randint(28, (3, 9), generator=torch.Generator().manual_seed(0))
    sampling = Sampling(max_tokens=50, temperature=1.0)

    def texts(rows: slice) -> list[Text]:
        begun = [
            Text(AfterSource(tokenizer, [1, 2][: 1 + row % 2]), sources[row].tolist(), sampling, seed=row)
            for row in range(3)
        ][rows]
        for _ in sample(model, begun, sampling):
            pass
        return begun

    together = texts(slice(0, 3))
    if model.max_length is not None:  # the source cannot be read again, so a text ends with the window
        assert max(len(text.prompt) + len(text.tokens) for text in together) == 17
    for row, text in enumerate(together):
        [alone] = texts(slice(row, row + 1))
        assert alone.tokens[: len(text.tokens)] == text.tokens
        assert text.finish_reason == "length"
