"""Models of transformers keep the contract, and say what transformers says to 1e-5."""

import itertools
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmexp.config.pretrained import Head, HFConfig
from lmexp.errors import ConfigError, DataError
from lmexp.models.pretrained import Pretrained
from tests.models.tiny_pretrained import (
    ALL,
    CAUSAL,
    LENGTH,
    MASKED,
    SEQ2SEQ,
    SIZES,
    assert_close,
    load,
    random_tokens,
    save,
    transformers,
    whole_model,
)

EVERY_MODEL = pytest.mark.parametrize("name", ALL)
EVERY_DECODER = pytest.mark.parametrize("name", CAUSAL)
EVERY_ENCODER = pytest.mark.parametrize("name", MASKED)
EVERY_ENCODER_DECODER = pytest.mark.parametrize("name", SEQ2SEQ)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Transformers' own models, and the folders they were saved in."""
    models = {name: whole_model(*config) for name, config in ALL.items()}
    return {name: (model, save(model, tmp_path_factory.mktemp("model"))) for name, model in models.items()}


def read(model: Pretrained, tokens: Tensor, source: Tensor | None = None) -> Tensor:
    """Return hidden states, of an encoder-decoder after a source."""
    return model(tokens, None if source is None else model.encode(source))[0]


@EVERY_MODEL
def test_logits_are_those_of_transformers(name: str, pairs: dict) -> None:
    theirs, folder = pairs[name]
    ours, tokens = load(folder, ALL[name][1]), random_tokens(64, 12)
    with torch.no_grad():
        if name in SEQ2SEQ:
            source = random_tokens(64, 9, seed=2)
            expected = theirs(input_ids=source, decoder_input_ids=tokens).logits
            actual = ours.head.logits(read(ours, tokens, source))
        else:
            expected, actual = theirs(tokens).logits, ours.head.logits(read(ours, tokens))
    assert_close(actual, expected)


@EVERY_MODEL
def test_losses_are_those_of_the_logits(name: str, pairs: dict) -> None:
    ours, tokens = load(pairs[name][1], ALL[name][1]), random_tokens(3, 8)
    hidden = read(ours, tokens, tokens if name in SEQ2SEQ else None)
    expected = torch.nn.functional.cross_entropy(ours.head.logits(hidden).flatten(0, 1), tokens.flatten())
    assert_close(ours.head.nll_sum(hidden, tokens) / tokens.numel(), expected)
    assert_close(ours.head.nll(hidden[0], tokens[0]), ours.head.nll(hidden, tokens)[0])
    assert ours.head.logits(hidden[0, 0]).shape == ours.head.logits(hidden)[0, 0].shape
    assert ours.head.logits(hidden[:, :0]).shape == (3, 0, ours.head.weight.shape[0])


@EVERY_MODEL
def test_every_weight_is_reached_by_the_loss(name: str, pairs: dict) -> None:
    ours, tokens = load(pairs[name][1], ALL[name][1]), random_tokens(3, 8)
    source = tokens if name in SEQ2SEQ else None
    ours.head.nll_sum(read(ours, tokens, source), tokens.roll(1)).backward()
    assert [key for key, weight in ours.named_parameters() if weight.grad is None] == []


@EVERY_MODEL
def test_a_model_built_from_its_architecture_takes_the_weights_of_a_checkpoint(name: str, pairs: dict) -> None:
    head = ALL[name][1]
    ours, tokens = load(pairs[name][1], head), random_tokens(2, 8)
    described = json.loads(json.dumps(ours.architecture))
    gone = Pretrained(
        HFConfig(name_or_path="gone", head=head), vocab_size=40, context_length=16, architecture=described
    ).eval()
    gone.load_state_dict(ours.state_dict())
    source = tokens if name in SEQ2SEQ else None
    assert torch.equal(read(gone, tokens, source), read(ours, tokens, source))


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_reading_in_chunks_with_a_state_equals_reading_at_once(name: str, size: int, pairs: dict) -> None:
    ours, tokens = load(pairs[name][1], ALL[name][1]), random_tokens(2, 11)
    source = random_tokens(2, 5, seed=2) if name in SEQ2SEQ else None
    with torch.no_grad():
        state = ours.new_state(2, 11) if source is None else ours.encode(source, max_length=11)
        parts = [ours(chunk, state)[0] for chunk in tokens.split(size, dim=1)]
        assert state.length == 11
        assert_close(torch.cat(parts, dim=1), read(ours, tokens, source))
        with pytest.raises(ValueError, match="a state for 11 tokens cannot hold 12"):
            ours(tokens[:, :1], state)


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_the_selected_rows_of_a_state_go_on_as_those_rows(name: str, pairs: dict) -> None:
    ours, tokens, rows = load(pairs[name][1], ALL[name][1]), random_tokens(3, 10), torch.tensor([2, 0, 0, 1])
    source = random_tokens(3, 5, seed=2) if name in SEQ2SEQ else None
    with torch.no_grad():
        state = ours.new_state(3, 10) if source is None else ours.encode(source, max_length=10)
        ours(tokens[:, :6], state)
        hidden, _ = ours(tokens[rows, 6:], state.select(rows))
        rest, _ = ours(tokens[:, 6:], state)  # the rows that were selected from go on undisturbed
        at_once = read(ours, tokens, source)
    assert_close(hidden, at_once[rows, 6:])
    assert_close(rest, at_once[:, 6:])


def test_a_detached_state_is_the_same_without_history(pairs: dict) -> None:
    ours, tokens = load(pairs["llama"][1]), random_tokens(2, 6)
    _, state = ours(tokens[:, :4], ours.new_state(2, 6))
    detached = state.detach()
    assert detached.length == 4
    assert detached.cache.layers[0].keys.grad_fn is None
    assert state.cache.layers[0].keys.grad_fn is not None
    assert_close(ours(tokens[:, 4:], detached)[0], read(ours, tokens)[:, 4:])


@EVERY_DECODER
def test_prompts_of_different_length_in_one_batch_go_on_as_each_alone(name: str, pairs: dict) -> None:
    ours, tokens, lengths = load(pairs[name][1]), random_tokens(3, 9), (9, 4, 1)
    padding = torch.arange(9) < 9 - torch.tensor(lengths)[:, None]
    more = random_tokens(3, 3, seed=2)
    rows = torch.tensor([1, 2, 0])
    with torch.no_grad():
        _, state = ours(tokens, ours.new_state(3, 12), (~padding).long())
        first, _ = ours(more[:, :2], state)
        second, _ = ours(more[rows, 2:], state.select(rows))
        for row, length in enumerate(lengths):
            alone = read(ours, torch.cat((tokens[row, 9 - length :], more[row]))[None])
            assert_close(first[row], alone[0, length : length + 2])
            assert_close(second[rows.tolist().index(row)], alone[0, length + 2 :])


@pytest.mark.parametrize("name", [*CAUSAL, *MASKED])
def test_documents_in_a_row_do_not_see_each_other(name: str, pairs: dict) -> None:
    ours, tokens = load(pairs[name][1], ALL[name][1]), random_tokens(2, 9)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 0, 0], [5, 5, 5, 5, 5, 5, 5, 5, 2]])
    together, _ = ours(tokens, None, segments)
    for row, cuts in enumerate([(0, 3, 7, 9), (0, 8, 9)]):
        for start, end in itertools.pairwise(cuts):
            assert_close(together[row, start:end], read(ours, tokens[row, None, start:end])[0])


def test_documents_that_begin_after_a_state_has_read_are_kept_apart_too(pairs: dict) -> None:
    ours, tokens = load(pairs["llama"][1]), random_tokens(2, 9)
    with torch.no_grad():
        state = ours.new_state(2, 9)
        ours(tokens[:, :3], state)
        middle, _ = ours(tokens[:, 3:7], state, torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]]))
        end, _ = ours(tokens[:, 7:], state)
    assert_close(torch.cat((middle[0, 2:], end[0])), read(ours, tokens[:1, 5:])[0])
    assert_close(torch.cat((middle[1], end[1])), read(ours, tokens[1:])[0, 3:])


@EVERY_ENCODER_DECODER
def test_padding_of_a_source_changes_nothing(name: str, pairs: dict) -> None:
    ours, tokens, source = load(pairs[name][1], Head.seq2seq), random_tokens(2, 6), random_tokens(2, 7, seed=2)
    is_real = torch.ones(2, 7, dtype=torch.bool)
    is_real[1, :2] = False
    padded, _ = ours(tokens, ours.encode(source, is_real))
    assert_close(padded[0], read(ours, tokens[:1], source[:1])[0])
    assert_close(padded[1], read(ours, tokens[1:], source[1:, 2:])[0])
    with pytest.raises(ValueError, match="reads a source first"):
        ours(tokens)


def test_bfloat16_autocast_is_near_float32_with_documents_too(pairs: dict) -> None:
    for name in ("llama", "bert"):
        ours, tokens = load(pairs[name][1], ALL[name][1]), random_tokens(2, 9)
        segments = (torch.arange(9) > 4).long().expand(2, -1)
        exact = ours.head.nll(ours(tokens, None, segments)[0], tokens).mean()
        with torch.autocast("cpu", torch.bfloat16):
            near = ours.head.nll(ours(tokens, None, segments)[0], tokens).mean()
        assert abs(near - exact) < 0.03 * exact


def test_an_encoder_without_a_head_gives_transformers_features_and_scores_tokens_by_its_embeddings(
    tmp_path: Path,
) -> None:
    theirs = whole_model(MASKED["bert"], Head.features)
    ours, tokens = load(save(theirs, tmp_path), Head.features), random_tokens(4, 9)
    hidden = read(ours, tokens)
    assert_close(hidden, theirs(tokens).last_hidden_state)
    assert_close(ours.head.logits(hidden), hidden @ theirs.embeddings.word_embeddings.weight.T)
    ours.head.nll_sum(hidden, tokens).backward()
    assert all(weight.grad is not None for weight in ours.parameters())


def test_features_of_a_model_with_a_head_are_those_of_its_encoder(pairs: dict) -> None:
    theirs, folder = pairs["bert"]
    tokens = random_tokens(2, 9)
    assert_close(read(load(folder, Head.features), tokens), theirs.bert(tokens).last_hidden_state)


def test_a_classifier_scores_labels_whatever_the_padding(tmp_path: Path) -> None:
    theirs = whole_model(transformers.BertConfig(**SIZES, num_labels=3), Head.classification)
    ours, tokens = load(save(theirs, tmp_path), Head.classification), random_tokens(2, 9)
    is_real = torch.arange(9) < torch.tensor([[9], [5]])
    scores = ours.classify(tokens, is_real)
    assert_close(scores[0], theirs(tokens[:1]).logits[0])
    assert_close(scores[1], theirs(tokens[1:, :5]).logits[0])


def test_the_longest_text_is_what_the_config_says(pairs: dict) -> None:
    assert load(pairs["llama"][1]).max_length == LENGTH
    assert load(pairs["gpt2"][1]).max_length == LENGTH
    assert load(pairs["roberta, whose positions begin at 2"][1], Head.masked).max_length == LENGTH - 2
    assert load(pairs["t5"][1], Head.seq2seq).max_length is None
    with pytest.raises(ConfigError, match=r"data.context_length: .* reads at most 64 tokens"):
        load(pairs["llama"][1], context_length=65)


def test_a_tokenizer_that_does_not_match_is_refused(pairs: dict) -> None:
    with pytest.raises(ConfigError, match="tokenizer: it has 41 tokens, and the model's embedding 40 rows"):
        load(pairs["llama"][1], vocab_size=41)


def test_documents_beyond_the_window_of_a_model_are_refused(tmp_path: Path) -> None:
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=8)
    ours, tokens = load(save(whole_model(config, Head.causal), tmp_path)), random_tokens(1, 12)
    with pytest.raises(ConfigError, match="looks back on 8 tokens"):
        ours(tokens, None, torch.zeros_like(tokens))
    with torch.no_grad():
        state = ours.new_state(1, 12)
        parts = [ours(part, state)[0] for part in tokens.split(5, dim=1)]
    assert_close(torch.cat(parts, dim=1), read(ours, tokens))


def test_a_new_model_is_in_training_mode_in_all_its_parts(pairs: dict) -> None:
    config = HFConfig(name_or_path=str(pairs["gpt2"][1]))
    assert all(module.training for module in Pretrained(config, vocab_size=40, context_length=16).modules())


def test_loading_needs_no_network(pairs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    load(pairs["llama"][1])


def test_without_weights_on_the_meta_device(pairs: dict) -> None:
    with torch.device("meta"):
        model = load(pairs["llama"][1])
    assert model.num_parameters() == load(pairs["llama"][1]).num_parameters()


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """The folder of a tiny Llama, to be damaged."""
    return save(whole_model(CAUSAL["llama"], Head.causal), tmp_path / "llama")


def change_weights(folder: Path, **changes: Tensor | None) -> None:
    path = folder / "model.safetensors"
    weights: dict[str, Any] = load_file(path) | {name.replace("__", "."): new for name, new in changes.items()}
    save_file({name: new for name, new in weights.items() if new is not None}, path, metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_tensors_that_are_missing_too_many_or_of_another_shape_are_named_in_one_line(llama: Path) -> None:
    change_weights(
        llama,
        model__norm__weight=None,
        model__layers__0__mlp__up_proj__weight=torch.zeros(32, 8),
        model__layers__2__mlp__up_proj__weight=torch.zeros(32, 16),
    )
    with pytest.raises(DataError) as refused:
        load(llama)
    message = str(refused.value)
    assert "model.layers.0.mlp.up_proj.weight is (32, 8), expected (32, 16)" in message
    assert "missing: model.norm.weight (16,)" in message
    assert "not expected: model.layers.2.mlp.up_proj.weight (32, 16)" in message
    assert "\n" not in message
    assert refused.value.exit_code == 2


def test_a_missing_head_is_not_made_up(tmp_path: Path) -> None:
    folder = save(whole_model(MASKED["bert"], Head.features), tmp_path)
    with pytest.raises(DataError, match=r"missing: cls\.predictions.*take model\.head=features"):
        load(folder, Head.masked)


def test_a_head_that_the_architecture_does_not_have_is_refused_with_those_it_has(llama: Path) -> None:
    with pytest.raises(DataError, match="a llama has no head masked; it has: causal, features, classification"):
        load(llama, Head.masked)


def test_an_architecture_that_does_not_keep_the_contract_is_refused_by_name(tmp_path: Path) -> None:
    config = transformers.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4)
    folder = save(whole_model(config, Head.causal), tmp_path)
    with pytest.raises(DataError, match=r"\(mamba\) cannot be used with model.head=causal: it does not go on from"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt9"}, "does not know the architecture 'gpt9'"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "brings its own code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "holds quantized weights"),
        ({"num_attention_heads": "many"}, "its config is not that of a llama"),
    ],
)
def test_a_config_of_another_kind_is_refused(llama: Path, changes: dict, message: str) -> None:
    change_config(llama, **changes)
    with pytest.raises((ConfigError, DataError), match=message) as refused:
        load(llama)
    assert refused.value.exit_code == 2


def test_a_folder_without_what_is_needed_is_refused(llama: Path, tmp_path: Path) -> None:
    weights = (llama / "model.safetensors").read_bytes()
    (llama / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(DataError, match="cannot be read, it may be cut short"):
        load(llama)
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin, a format that can run code .*save_pretrained"):
        load(llama)
    (llama / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json does not describe a model"):
        load(llama)
    (llama / "config.json").rename(llama / "adapter_config.json")
    with pytest.raises(ConfigError, match=r"has no config\.json; it holds adapters only"):
        load(llama)
    with pytest.raises(ConfigError, match=r"nothing is there: .*gone"):
        load(tmp_path / "gone")


def test_what_a_config_says_about_code_and_files_is_not_taken(llama: Path) -> None:
    change_config(llama, _attn_implementation_internal="stranger/kernel", transformers_weights="../other.safetensors")
    assert load(llama).hf_config._attn_implementation == "sdpa"


# -- GGUF ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A Llama of one layer whose weights are 0.01 * 0, 1, 2, ..., as llama.cpp would write it."""
    import gguf
    import numpy as np

    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(40)
    block = {
        "attn_q": (16, 16),
        "attn_k": (8, 16),
        "attn_v": (8, 16),
        "attn_output": (16, 16),
        "ffn_gate": (32, 16),
        "ffn_up": (32, 16),
        "ffn_down": (16, 32),
        "attn_norm": (16,),
        "ffn_norm": (16,),
    }
    shapes = {"token_embd": (40, 16), "output_norm": (16,)} | {f"blk.0.{name}": shape for name, shape in block.items()}
    for seed, (name, shape) in enumerate(shapes.items()):
        writer.add_tensor(f"{name}.weight", np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_read_as_weights_of_its_architecture(gguf_file: Path) -> None:
    ours, tokens = load(gguf_file), random_tokens(2, 6)
    assert ours.max_length == 32
    assert {weight.dtype for weight in ours.parameters()} == {torch.float32}
    import numpy as np

    expected = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    assert_close(ours.head.weight.detach(), torch.from_numpy(expected))
    assert ours.head.logits(read(ours, tokens)).isfinite().all()


@pytest.mark.parametrize("size", [3, 10, 200, 3000, -40])
def test_a_gguf_file_that_is_cut_short_is_refused(gguf_file: Path, size: int) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:size])
    with pytest.raises(DataError, match=r"tiny.gguf.*(cut short|not a GGUF file)") as refused:
        load(gguf_file)
    assert "\n" not in str(refused.value)


def test_a_gguf_file_is_for_causal_models(gguf_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"a \.gguf file is read with model.head=causal only"):
        load(gguf_file, Head.masked)
