import dataclasses

import pytest
import torch

from lmexp.config.model import Kind
from lmexp.config.schema import build
from lmexp.config.tokenizer import BytesConfig, CharactersConfig
from lmexp.errors import DataError, NumericsError
from lmexp.generation import Sampling, generate, stream
from lmexp.generation.sampling import choose
from lmexp.models.state import LanguageModel
from lmexp.tokenization import Tokenizer, learn
from tests.generation.setups import Fixed
from tests.models.setups import CONFIGS, small

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
GREEDY = Sampling(max_tokens=30, temperature=0)
DRAWN = Sampling(max_tokens=30, temperature=1.0)
EVERY_MODEL = pytest.mark.parametrize("name", small(Kind.decoder))


@pytest.fixture
def letters() -> Tokenizer:
    """28 characters and nothing else: no token ends a document."""
    return learn(CharactersConfig(byte_fallback=False, end_of_document=False), [LETTERS])


def new_model(name: str, tokenizer: Tokenizer, context_length: int = 64) -> LanguageModel:
    """Return a model that prefers some tokens clearly, in training mode with dropout."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIGS[name], dropout=0.5)
    model = build(config, vocab_size=tokenizer.vocab_size, context_length=context_length)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


# -- which text ----------------------------------------------------------------------------------------------------


@EVERY_MODEL
def test_greedy_text_is_the_likeliest_token_again_and_again(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters)
    ids = letters.encode("the cat").tolist()
    model.eval()
    for _ in range(30):
        hidden, _ = model(torch.tensor([ids]))
        ids.append(int(model.head.logits(hidden)[0, -1].argmax()))
    assert list(stream(model, letters, "the cat", GREEDY)) == ids[7:]
    assert generate(model, letters, "the cat", GREEDY) == letters.decode(ids[7:])


@EVERY_MODEL
def test_drawn_text_follows_the_probabilities_without_a_cache(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters).eval()
    ids, random = letters.encode("a").tolist(), torch.Generator().manual_seed(7)
    for _ in range(30):
        logits = model.head.logits(model(torch.tensor([ids]))[0])[0, -1]
        ids.append(choose(logits, Sampling(temperature=0.7), random))
    sampling = Sampling(max_tokens=30, temperature=0.7, seed=7)
    assert list(stream(model, letters, "a", sampling)) == ids[1:]


@EVERY_MODEL
def test_the_seed_alone_determines_the_text(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters)
    texts = []
    for seed, global_seed in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(global_seed)
        texts.append(generate(model, letters, "a", dataclasses.replace(DRAWN, seed=seed)))
    assert texts[0] == texts[1] != texts[2]


@EVERY_MODEL
def test_sampling_leaves_the_random_state_and_the_mode_of_training_alone(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters).train()
    before = torch.get_rng_state()
    generate(model, letters, "a", DRAWN)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    generate(model.eval(), letters, "a", DRAWN)
    assert not any(module.training for module in model.modules())


def test_the_mode_of_training_comes_back_after_a_failure(letters: Tokenizer) -> None:
    model = new_model("gpt2", letters).train()
    with torch.no_grad():
        model.embedding.weight.fill_(torch.nan)
    with pytest.raises(NumericsError, match="diverged"):
        generate(model, letters, "a", DRAWN)
    assert model.training


def test_sampling_keeps_no_gradients(letters: Tokenizer) -> None:
    model = new_model("lstm", letters)
    generate(model, letters, "a", GREEDY)
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()


# -- where it begins and ends ---------------------------------------------------------------------------------------


def test_text_ends_with_the_document_and_the_end_is_not_shown() -> None:
    tokenizer = learn(BytesConfig(), [])
    model = Fixed([*b"one", 256, *b"two"], 257)
    assert generate(model, tokenizer, "x", GREEDY) == "one"


def test_text_has_at_most_max_tokens() -> None:
    model = Fixed(b"abcdef", 257)
    assert generate(model, learn(BytesConfig(), []), "x", Sampling(max_tokens=4, temperature=0)) == "abcd"


def test_a_text_without_a_prompt_begins_like_a_document() -> None:
    tokenizer = learn(BytesConfig(), [])
    model = new_model("gpt2", tokenizer)
    with torch.no_grad():
        first = model.eval().head.logits(model(torch.tensor([[256]]))[0])[0, -1].argmax()
    assert next(stream(model, tokenizer, "", GREEDY)) == first


def test_a_text_without_a_prompt_needs_a_token_to_begin_with(letters: Tokenizer) -> None:
    with pytest.raises(DataError, match="the prompt is empty"):
        generate(new_model("lstm", letters), letters, "", GREEDY)


@EVERY_MODEL
def test_a_full_window_goes_on_from_its_last_half(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters, context_length=8).eval()
    ids = letters.encode("hello").tolist()
    window = ids.copy()
    for _ in range(30):
        if model.max_length is not None and len(window) > model.max_length:
            window = window[-4:]
        token = int(model.head.logits(model(torch.tensor([window]))[0])[0, -1].argmax())
        ids.append(token)
        window.append(token)
    assert list(stream(model, letters, "hello", GREEDY)) == ids[5:]


@EVERY_MODEL
def test_of_a_prompt_longer_than_the_window_the_end_is_read(name: str, letters: Tokenizer) -> None:
    model = new_model(name, letters, context_length=8)
    prompt = "the quick brown fox"
    text = generate(model, letters, prompt, GREEDY)
    same_end = generate(model, letters, "x" * 11 + prompt[-8:], GREEDY)
    assert len(text) == 30
    assert (text == same_end) == (model.max_length is not None)


def test_a_window_of_one_token_is_enough(letters: Tokenizer) -> None:
    assert len(generate(new_model("transformer", letters, context_length=1), letters, "abc", DRAWN)) == 30
