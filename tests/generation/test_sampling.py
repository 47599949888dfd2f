"""Which text follows a prompt, where it begins and where it ends."""

import dataclasses
import random
from typing import Any

import pytest
import torch

from lmexp.config.model import Kind
from lmexp.config.tokenizer import BytesConfig, WordsConfig
from lmexp.errors import DataError, NumericsError
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling, choose
from lmexp.generation.text import Completion, complete, generate
from lmexp.models.state import LanguageModel
from lmexp.tokenization import Tokenizer, learn
from tests.generation.setups import Fixed, letters, new_model
from tests.models.setups import DECODERS, small

GREEDY = Sampling(max_tokens=30, temperature=0)
DRAWN = Sampling(max_tokens=30, temperature=1.0)
EVERY_DECODER = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())
EVERY_OPTION = pytest.mark.parametrize("config", small(Kind.decoder).values(), ids=small(Kind.decoder).keys())
GPT2, LSTM, TRANSFORMER = (DECODERS[name] for name in ("gpt2", "lstm", "transformer"))


def completion(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Completion:
    [one] = complete(model, Continuation(tokenizer), [prompt], sampling)
    return one


# -- which text ----------------------------------------------------------------------------------------------------


@EVERY_DECODER
def test_greedy_text_is_the_likeliest_token_again_and_again(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer)
    ids = tokenizer.encode("the cat").tolist()
    for _ in range(30):
        hidden, _ = model(torch.tensor([ids]))
        ids.append(int(model.head.logits(hidden)[0, -1].argmax()))
    assert completion(model, tokenizer, "the cat", GREEDY).tokens == ids[7:]
    assert generate(model, Continuation(tokenizer), "the cat", GREEDY) == tokenizer.decode(ids[7:])


@EVERY_OPTION
def test_drawn_text_follows_the_probabilities_without_a_cache(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer)
    sampling = Sampling(max_tokens=30, temperature=0.7, top_k=10, seed=7)
    ids, numbers = tokenizer.encode("a").tolist(), random.Random(7)
    for _ in range(30):
        logits = model.head.logits(model(torch.tensor([ids]))[0])[:, -1].detach().numpy()
        ids.append(int(choose(logits, sampling, [1 - numbers.random()])[0]))
    assert completion(model, tokenizer, "a", sampling).tokens == ids[1:]


@EVERY_OPTION
def test_the_seed_alone_determines_the_text(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer)
    texts = []
    for seed, global_seed in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(global_seed)
        texts.append(generate(model, Continuation(tokenizer), "a", dataclasses.replace(DRAWN, seed=seed)))
    assert texts[0] == texts[1] != texts[2]


def test_a_repetition_penalty_keeps_a_text_from_going_in_circles() -> None:
    tokenizer = letters()
    model = new_model(TRANSFORMER, tokenizer)
    plain = completion(model, tokenizer, "a", GREEDY).tokens
    varied = completion(model, tokenizer, "a", dataclasses.replace(GREEDY, repetition_penalty=1e6)).tokens
    assert len(set(varied)) > 2 * len(set(plain))


@EVERY_OPTION
def test_sampling_leaves_the_random_state_and_the_mode_of_training_alone(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer, dropout=0.5).train()
    before = torch.get_rng_state()
    text = generate(model, Continuation(tokenizer), "a", DRAWN)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert generate(model.eval(), Continuation(tokenizer), "a", DRAWN) == text  # no dropout either time
    assert not any(module.training for module in model.modules())


def test_the_mode_of_training_comes_back_after_a_failure() -> None:
    tokenizer = letters()
    model = new_model(GPT2, tokenizer).train()
    with torch.no_grad():
        model.embedding.weight.fill_(torch.nan)
    with pytest.raises(NumericsError, match="diverged"):
        generate(model, Continuation(tokenizer), "a", DRAWN)
    assert model.training


@EVERY_OPTION
def test_a_model_can_be_trained_after_sampling(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer).train()
    generate(model, Continuation(tokenizer), "a", GREEDY)
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()
    tokens = torch.zeros(2, 40, dtype=torch.long)
    model.head.nll_sum(model(tokens)[0], tokens).backward()
    assert all(weight.grad is not None for weight in model.parameters())


# -- where it begins and ends ---------------------------------------------------------------------------------------


def test_text_ends_with_the_document_and_the_end_is_not_shown() -> None:
    model = Fixed([*b"one", 256, *b"two"], 257)
    one = completion(model, learn(BytesConfig(), []), "x", GREEDY)
    assert (one.text, one.tokens, one.finish_reason) == ("one", list(b"one"), "end")


def test_text_has_at_most_max_tokens() -> None:
    one = completion(Fixed(b"abcdef", 257), learn(BytesConfig(), []), "x", Sampling(max_tokens=4, temperature=0))
    assert (one.text, one.finish_reason, one.seed) == ("abcd", "length", 0)


def test_a_text_without_a_prompt_begins_like_a_document() -> None:
    tokenizer = learn(BytesConfig(), [])
    model = new_model(GPT2, tokenizer)
    first = model.head.logits(model(torch.tensor([[256]]))[0])[0, -1].argmax()
    assert completion(model, tokenizer, "", GREEDY).tokens[0] == first


def test_a_text_without_a_prompt_needs_a_token_to_begin_with() -> None:
    tokenizer = letters()
    with pytest.raises(DataError, match="the prompt '': it is empty"):
        generate(new_model(LSTM, tokenizer), Continuation(tokenizer), "", GREEDY)


@EVERY_DECODER
def test_a_full_window_goes_on_from_its_last_half(config: Any) -> None:
    tokenizer = letters()
    model = new_model(config, tokenizer, context_length=8)
    ids = tokenizer.encode("hello").tolist()
    window = ids.copy()
    for _ in range(30):
        if model.max_length is not None and len(window) > model.max_length:
            window = window[-4:]
        token = int(model.head.logits(model(torch.tensor([window]))[0])[0, -1].argmax())
        ids.append(token)
        window.append(token)
    assert completion(model, tokenizer, "hello", GREEDY).tokens == ids[5:]


def test_a_window_of_one_token_is_enough() -> None:
    tokenizer = letters()
    assert len(generate(new_model(TRANSFORMER, tokenizer, context_length=1), Continuation(tokenizer), "a", DRAWN)) == 30


def test_a_prompt_may_fill_the_window_and_no_more() -> None:
    tokenizer = letters()
    model = new_model(GPT2, tokenizer, context_length=8)
    assert len(generate(model, Continuation(tokenizer), "a" * 8, GREEDY)) == 30
    with pytest.raises(DataError) as caught:
        generate(model, Continuation(tokenizer), "a" * 9, GREEDY)
    assert str(caught.value) == ("the prompt 'aaaaaaaaa' has 9 tokens, and the model reads at most 8: shorten it")
    assert len(generate(new_model(LSTM, tokenizer, context_length=8), Continuation(tokenizer), "a" * 99, GREEDY)) == 30


def test_a_long_prompt_is_shown_in_part() -> None:
    tokenizer = letters()
    with pytest.raises(DataError, match=r"the prompt '(a b ){10}\.\.\.' has 200 tokens"):
        generate(new_model(GPT2, tokenizer), Continuation(tokenizer), "a b " * 50, GREEDY)


def test_characters_that_the_tokenizer_does_not_have_are_named() -> None:
    tokenizer = letters()
    with pytest.raises(DataError, match=r"the prompt 'so é': 'é' \(U\+00E9\) is not in the training split"):
        generate(new_model(GPT2, tokenizer), Continuation(tokenizer), "so é", GREEDY)


def test_a_prompt_that_leaves_no_token_is_refused() -> None:
    tokenizer = learn(WordsConfig(vocab_size=None), ["the cat\n"])
    with pytest.raises(DataError, match="the prompt '  ': it has no tokens"):
        generate(new_model(GPT2, tokenizer), Continuation(tokenizer), "  ", GREEDY)
