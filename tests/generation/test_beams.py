"""Beam search: the best of all texts where there are few, and what transformers finds."""

import itertools
from typing import Any

import pytest
import torch

from lmexp.config.model import GPT2Config
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Completion, Text, complete, search_texts
from lmexp.models.state import LanguageModel
from tests.generation.setups import AfterSource, Fixed, letters, letters_and_end, new_model
from tests.models.setups import DECODERS, ENCODER_DECODERS

PROMPTS = ["a", "the quick brown", "hello"]
GPT2 = GPT2Config(num_layers=2, hidden_size=16, bias=True)
EVERY_DECODER = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())


def beams(number: int, **settings: Any) -> Sampling:
    return Sampling(num_beams=number, temperature=0, **settings)


def test_with_as_many_beams_as_texts_it_finds_the_best_of_all() -> None:
    tokenizer = letters()
    model = new_model(DECODERS["transformer"], tokenizer)
    [prompt] = tokenizer.encode("a").tolist()
    texts = torch.tensor(list(itertools.product(range(28), repeat=2)))
    with torch.no_grad():
        rows = torch.cat((torch.full((len(texts), 1), prompt), texts), dim=1)
        logits = model.head.logits(model(rows[:, :-1])[0]).log_softmax(-1)
    totals = logits.gather(2, texts[..., None]).sum((1, 2))
    best = totals.topk(5)
    found = list(complete(model, Continuation(tokenizer), ["a"], beams(28, max_tokens=2), num_samples=5))
    assert [one.tokens for one in found] == texts[best.indices].tolist()
    assert [one.score for one in found] == pytest.approx((best.values / 2).tolist(), abs=1e-5)


def of_transformers(model: LanguageModel, prompt: list[int], end: int | None, sampling: Sampling) -> Any:
    """Return the sequences and scores of transformers' generate, for a GPT-2 of the same weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=len(model.head.weight),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=4,
        activation_function="gelu",
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=0,
    )
    twin = transformers.GPT2LMHeadModel(config).eval()
    weights = {"transformer.wte.weight": model.embedding.weight, "lm_head.weight": model.embedding.weight}
    weights["transformer.wpe.weight"] = model.position_embedding.weight
    names = {"attention_norm": "ln_1", "attention.qkv": "attn.c_attn", "attention.output": "attn.c_proj"}
    names |= {"mlp_norm": "ln_2", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
    for layer, block in enumerate(model.blocks):
        for ours, theirs in names.items():
            module = block.get_submodule(ours)
            is_linear = isinstance(module, torch.nn.Linear)
            weights[f"transformer.h.{layer}.{theirs}.weight"] = module.weight.T if is_linear else module.weight
            weights[f"transformer.h.{layer}.{theirs}.bias"] = module.bias
    weights |= {"transformer.ln_f.weight": model.norm.weight, "transformer.ln_f.bias": model.norm.bias}
    twin.load_state_dict({name: weight.detach().clone() for name, weight in weights.items()})
    return twin.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=sampling.max_tokens,
        do_sample=False,
        num_beams=sampling.num_beams,
        num_return_sequences=sampling.num_beams,
        length_penalty=sampling.length_penalty,
        repetition_penalty=sampling.repetition_penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"length_penalty": 0.0},
        {"length_penalty": 2.5},
        {"length_penalty": -1.0},
        {"repetition_penalty": 1.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("has_end", [True, False])
def test_beams_equal_those_of_transformers(number: int, settings: dict[str, float], has_end: bool) -> None:
    tokenizer = letters_and_end() if has_end else letters()
    model = new_model(GPT2, tokenizer)
    sampling, end = beams(number, max_tokens=20, **settings), tokenizer.end_of_document_id
    if end is not None:
        with torch.no_grad():
            model.embedding.weight[end] = 1.5 * model.norm.bias  # the end is likely everywhere
    ours = list(complete(model, Continuation(tokenizer), PROMPTS, sampling, num_samples=number))
    reasons = set()
    for position, prompt in enumerate(PROMPTS):
        ids = tokenizer.encode(prompt).tolist()
        theirs = of_transformers(model, ids, end, sampling)
        mine = ours[position * number : (position + 1) * number]
        for one, row, score in zip(mine, theirs.sequences.tolist(), theirs.sequences_scores.tolist(), strict=True):
            new = row[len(ids) :]
            expected = new[: new.index(end)] if end in new else new
            assert one.tokens == expected[: len(one.tokens)]
            assert set(expected[len(one.tokens) :]) <= {0}  # padding
            assert one.score == pytest.approx(score, rel=1e-5, abs=1e-5)
            reasons.add(one.finish_reason)
    assert "end" in reasons if has_end else reasons == {"length"}


@EVERY_DECODER
def test_beams_of_prompts_together_equal_those_alone(config: Any) -> None:
    tokenizer = letters_and_end()
    model = new_model(config, tokenizer, context_length=16)  # some go beyond the window
    sampling = beams(3, max_tokens=15)
    together = list(complete(model, Continuation(tokenizer), PROMPTS, sampling, num_samples=2))
    alone = [
        one for prompt in PROMPTS for one in complete(model, Continuation(tokenizer), [prompt], sampling, num_samples=2)
    ]
    assert [without_score(one) for one in together] == [without_score(one) for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-5)


def without_score(one: Completion) -> tuple[str, str, list[int], str]:
    return one.prompt, one.text, one.tokens, one.finish_reason


def test_one_beam_is_greedy() -> None:
    tokenizer = letters()
    model = new_model(GPT2, tokenizer)
    [greedy] = complete(model, Continuation(tokenizer), ["a"], Sampling(max_tokens=20, temperature=0))
    texts = [Text(Continuation(tokenizer), tokenizer.encode("a").tolist(), beams(1, max_tokens=20))]
    [[(found, _)]] = search_texts(model, texts, beams(1, max_tokens=20))
    assert found.tokens == greedy.tokens


def test_a_beam_ends_before_a_stop_string() -> None:
    tokenizer = letters()
    model = new_model(GPT2, tokenizer)
    [whole] = complete(model, Continuation(tokenizer), ["hello"], beams(3, max_tokens=20))
    stop = whole.text[4:7]
    found = list(
        complete(model, Continuation(tokenizer), ["hello"], beams(3, max_tokens=20, stop=(stop,)), num_samples=3)
    )
    assert any(one.finish_reason == "stop" for one in found)
    assert all(stop not in one.text for one in found)
    assert all((one.finish_reason == "stop") == (stop in tokenizer.decode(one.tokens)) for one in found)


def test_a_text_that_can_only_end_is_the_one_result() -> None:
    tokenizer = letters_and_end()
    [one] = complete(Fixed([1, 28, 28, 28], 29), Continuation(tokenizer), ["a"], beams(2, max_tokens=4))
    assert (one.text, one.finish_reason) == (tokenizer.decode([1]), "end")
    assert one.as_dict() == {
        "prompt": "a",
        "text": one.text,
        "tokens": [1],
        "finish_reason": "end",
        "score": one.score,
    }


@pytest.mark.parametrize("config", ENCODER_DECODERS.values(), ids=ENCODER_DECODERS.keys())
def test_beams_go_on_from_the_state_of_their_sources(config: Any) -> None:
    tokenizer = letters_and_end()
    model = new_model(config, tokenizer, context_length=16)
    sources = torch.randint(28, (3, 9), generator=torch.Generator().manual_seed(0))
    sampling = beams(3, max_tokens=12)

    def found(rows: slice) -> list[list[int]]:
        texts = [Text(AfterSource(tokenizer, [0]), source.tolist(), sampling) for source in sources[rows]]
        return [text.tokens for results in search_texts(model, texts, sampling) for text, _ in results]

    assert found(slice(0, 3)) == [tokens for row in range(3) for tokens in found(slice(row, row + 1))]
