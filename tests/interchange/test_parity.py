"""What transformers loads from our export, and what we import from its folders, gives the same logits."""

from pathlib import Path

import pytest
import torch

from lmexp.checkpoints import load_run
from lmexp.interchange.exporting import export
from lmexp.interchange.importing import import_run
from tests.interchange.setups import (
    CONFIGS,
    assert_close,
    made_run,
    our_logits,
    random_tokens,
    their_logits,
    transformers,
)

pytestmark = pytest.mark.usefixtures("folder")

VOCAB_SIZE = 300
THEIRS = {
    "llama": transformers.LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    ),
    "qwen3": transformers.Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    ),
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    ),
    "bert": transformers.BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_gives_the_logits_of_an_exported_run(folder: Path, name: str) -> None:
    run = made_run(CONFIGS[name])
    tokens = random_tokens(load_run(run.path).tokenizer.vocab_size)
    out = export(run.path, folder / "out")
    assert_close(their_logits(out, tokens), our_logits(run, tokens))


@pytest.mark.parametrize("name", CONFIGS)
def test_an_exported_run_comes_back_as_it_was(folder: Path, name: str) -> None:
    run = made_run(CONFIGS[name])
    tokens = random_tokens(load_run(run.path).tokenizer.vocab_size)
    back, is_new = import_run(export(run.path, folder / "out"))
    assert is_new
    assert_close(our_logits(back, tokens), our_logits(run, tokens))


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("name", THEIRS)
def test_an_imported_run_gives_the_logits_of_transformers(folder: Path, name: str, num_shards: int) -> None:
    torch.manual_seed(0)
    auto = transformers.AutoModelForMaskedLM if name == "bert" else transformers.AutoModelForCausalLM
    model = auto.from_config(THEIRS[name]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    size = sum(weight.numel() for weight in model.parameters()) * 4
    model.save_pretrained(folder / "theirs", max_shard_size=size // num_shards + 1)
    assert (folder / "theirs" / "model.safetensors.index.json").exists() == (num_shards > 1)
    export(made_run(CONFIGS["gpt2 as nanogpt has it"]).path, folder / "ours")
    for path in (folder / "ours").glob("tokenizer*.json"):
        path.rename(folder / "theirs" / path.name)
    tokens = random_tokens(VOCAB_SIZE)
    run, _ = import_run(folder / "theirs")
    with torch.no_grad():
        assert_close(our_logits(run, tokens), model(tokens).logits)


def test_names_without_the_prefix_and_masks_of_old_gpt2_files_are_understood(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    run = made_run(CONFIGS["gpt2 as published"])
    out = export(run.path, folder / "out")
    tensors = load_file(out / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 36, 36, dtype=torch.uint8).tril()
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, out / "model.safetensors", {"format": "pt"})
    tokens = random_tokens(200)
    assert_close(our_logits(import_run(out)[0], tokens), our_logits(run, tokens))


@pytest.mark.parametrize("old", [True, False], ids=["as transformers 4 has it", "as transformers 5 has it"])
def test_the_base_of_the_rotary_positions_is_read_from_either_place(folder: Path, old: bool) -> None:
    from tests.interchange.setups import change_config

    run = made_run(CONFIGS["llama, grouped queries, untied"])
    out = export(run.path, folder / "out")
    change_config(out, **{"rope_parameters" if old else "rope_theta": ...})
    imported = import_run(out)[0].config.model
    assert imported.rope_theta == 5e4
