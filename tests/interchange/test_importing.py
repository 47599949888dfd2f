"""A folder from elsewhere becomes a run, or one clear line says why it cannot."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lmexp.checkpoints import load_run
from lmexp.errors import DataError
from lmexp.interchange.exporting import export
from lmexp.interchange.importing import import_run
from lmexp.runs import RunFolder, list_runs
from tests.interchange.setups import CONFIGS, LSTMS, change_config, change_tensors, made_run, our_logits, random_tokens

pytestmark = pytest.mark.usefixtures("folder")


def exported(kind: str = "llama", to: str = "hf") -> Path:
    return export(made_run((CONFIGS | LSTMS)[kind]).path, "theirs", to=to)


def refusal(path: str | Path) -> str:
    with pytest.raises(DataError) as error:
        import_run(path)
    assert error.value.exit_code == 2
    assert str(error.value).count("\n") == 0
    assert not [run for run in list_runs() if run.path.name.startswith("theirs")]
    return str(error.value)


def test_an_imported_run_is_done_and_says_where_it_comes_from() -> None:
    source = exported()
    run, _ = import_run(source, name="mine", project="zoo", command=["import", "theirs"])
    record = run.record
    assert run.path.parent == Path("outputs/zoo")
    assert run.path.name.startswith("mine-")
    assert (record["status"], record["step"], record["command"]) == ("done", 0, ["import", "theirs"])
    assert record["imported"]["path"] == str(source.resolve())
    assert record["imported"]["architecture"] == "LlamaForCausalLM"
    assert record["parameters"] == load_run(run.path).model.num_parameters()
    assert run.config.model.qk_norm is False
    assert record["tokenizer_hash"] == load_run(run.path).tokenizer.hash


def test_the_same_folder_is_the_same_run_wherever_it_lies() -> None:
    source = exported()
    first, is_new = import_run(source)
    assert is_new
    created = first.record["created"]
    source.rename("elsewhere")
    again, is_new = import_run("elsewhere", name="theirs")
    assert (again.path, is_new, again.record["created"]) == (first.path, False, created)
    change_tensors(Path("elsewhere"), model__norm__weight=torch.zeros(16))
    other, is_new = import_run("elsewhere", name="theirs")
    assert is_new
    assert other.path != first.path


@pytest.mark.parametrize("kind", LSTMS)
def test_our_own_safetensors_come_back_as_they_were(kind: str) -> None:
    run = made_run(LSTMS[kind])
    back, _ = import_run(export(run.path, "theirs", to="safetensors"))
    tokens = random_tokens(100)
    assert torch.equal(our_logits(back, tokens), our_logits(run, tokens))
    assert load_run(back.path).tokenizer.hash == load_run(run.path).tokenizer.hash


def test_an_embedding_with_more_rows_than_tokens_keeps_them() -> None:
    source = exported("gpt2 as nanogpt has it")
    tokens = load_run("made").tokenizer.vocab_size
    change_config(source, vocab_size=tokens + 7)
    table = torch.randn(tokens + 7, 16)
    change_tensors(source, transformer__wte__weight=table)
    run, _ = import_run(source)
    assert torch.equal(load_run(run.path).model.embedding.weight, table)


# What is wrong with a folder

Change = Callable[[Path], Any]
WRONG_FOLDERS: dict[str, tuple[str, Change, str]] = {
    "another architecture": (
        "llama",
        lambda f: change_config(f, architectures=["MixtralForCausalLM"]),
        "the architecture is MixtralForCausalLM; lmexp has a counterpart for LlamaForCausalLM, Qwen3ForCausalLM, "
        "GPT2LMHeadModel, BertForMaskedLM",
    ),
    "scaled rotary positions": (
        "llama",
        lambda f: change_config(f, rope_parameters={"rope_type": "llama3", "factor": 8.0}),
        'rope_parameters={"rope_type": "llama3", "factor": 8.0}: lmexp\'s model has plain rotary positions only',
    ),
    "scaled rotary positions of old": (
        "llama",
        lambda f: change_config(f, rope_scaling={"type": "linear", "factor": 2.0}),
        'rope_scaling={"type": "linear", "factor": 2.0}: lmexp\'s model has plain rotary positions only',
    ),
    "biases": (
        "llama",
        lambda f: change_config(f, attention_bias=True, mlp_bias=True),
        "attention_bias=true, mlp_bias=true: lmexp's model has no counterpart for this",
    ),
    "a sliding window": (
        "qwen3",
        lambda f: change_config(f, layer_types=["full_attention", "sliding_attention"]),
        'layer_types=["full_attention", "sliding_attention"]: lmexp\'s model has no counterpart for this',
    ),
    "another activation": (
        "gpt2 as published",
        lambda f: change_config(f, activation_function="relu"),
        'activation_function="relu": lmexp\'s model has no counterpart for this',
    ),
    "quantized weights": (
        "llama",
        lambda f: change_config(f, quantization_config={"bits": 4}),
        'quantization_config={"bits": 4}: lmexp\'s model has no counterpart for this',
    ),
    "a size that is missing": (
        "llama",
        lambda f: change_config(f, num_hidden_layers=...),
        "num_hidden_layers is missing and must be a number",
    ),
    "a size that is a text": (
        "llama",
        lambda f: change_config(f, hidden_size="16"),
        'hidden_size is "16" and must be a number',
    ),
    "sizes that do not fit": (
        "llama",
        lambda f: change_config(f, num_key_value_heads=3),
        "num_key_value_heads: 4 heads cannot share 3 evenly",
    ),
    "a tensor that is missing": (
        "llama",
        lambda f: change_tensors(f, model__layers__1__mlp__up_proj__weight=None),
        "missing tensors: model.layers.1.mlp.up_proj.weight [64, 16]",
    ),
    "tensors left over": (
        "llama",
        lambda f: change_config(f, num_hidden_layers=1),
        "tensors that the model does not have: model.layers.1.input_layernorm.weight [16], ",
    ),
    "a tensor of another shape": (
        "gpt2 as published",
        lambda f: change_tensors(f, transformer__h__0__mlp__c_fc__weight=torch.zeros(64, 16)),
        "tensors of another shape: transformer.h.0.mlp.c_fc.weight: expected [16, 64], found [64, 16]",
    ),
    "a tensor of numbers that are not finite": (
        "llama",
        lambda f: change_tensors(f, model__norm__weight=torch.full((16,), torch.nan)),
        "norm.weight holds values that are not finite numbers",
    ),
    "embeddings that are tied and are not": (
        "llama",
        lambda f: change_tensors(f, lm_head__weight=torch.zeros(300, 16)),
        "lm_head.weight is not model.embed_tokens.weight, though the config says that embeddings are tied",
    ),
    "a tokenizer of another model": (
        "llama",
        lambda f: (change_config(f, vocab_size=50), change_tensors(f, model__embed_tokens__weight=torch.zeros(50, 16))),
        "the tokenizer does not match: it has 285 tokens, the embedding 50 rows",
    ),
    "a config that is no JSON": (
        "llama",
        lambda f: (f / "config.json").write_text("{,"),
        "config.json is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    ),
    "a config that is a list": (
        "llama",
        lambda f: (f / "config.json").write_text("[]"),
        "config.json must hold keys and values",
    ),
    "no config": ("llama", lambda f: (f / "config.json").unlink(), "config.json: No such file or directory"),
    "weights cut short": (
        "llama",
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors is damaged, or no safetensors file (",
    ),
    "weights that are no safetensors": (
        "llama",
        lambda f: (f / "model.safetensors").write_bytes(b"\0" * 300),
        "model.safetensors is damaged, or no safetensors file (",
    ),
    "no weights": ("llama", lambda f: (f / "model.safetensors").unlink(), "theirs has no model.safetensors"),
    "pickled weights only": (
        "llama",
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "theirs has pytorch_model.bin only, which could run code when it is loaded; save the model as safetensors "
        "where it comes from: model.save_pretrained(DIR)",
    ),
    "a part of the weights that is missing": (
        "llama",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        ),
        "theirs: model-1.safetensors is missing, which model.safetensors.index.json names",
    ),
    "a part of the weights that lies elsewhere": (
        "llama",
        lambda f: (
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}'),
        ),
        "model.safetensors is not a file of this folder",
    ),
    "no tokenizer": (
        "llama",
        lambda f: [path.unlink() for path in f.glob("tokenizer*")],
        "theirs has no tokenizer.json",
    ),
    "a tokenizer cut short": (
        "llama",
        lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text()[:100]),
        "theirs/tokenizer.json: not JSON, perhaps cut short (",
    ),
}


@pytest.mark.parametrize("what", WRONG_FOLDERS)
def test_what_is_wrong_with_a_folder_is_said_in_one_line(what: str) -> None:
    kind, change, expected = WRONG_FOLDERS[what]
    source = exported(kind)
    change(source)
    message = refusal(source)
    assert "theirs" in message
    assert expected in message


WRONG_DOCUMENTS: dict[str, tuple[Change, str]] = {
    "a tensor that is missing": (
        lambda f: change_tensors(f, head__bias=None),
        "theirs: missing tensors: head.bias [285]",
    ),
    "another format": (
        lambda f: (f / "model.json").write_text('{"format": "lmexp-model-9"}'),
        "theirs/model.json: its format is 'lmexp-model-9', and this lmexp reads 'lmexp-model-1'",
    ),
    "no sizes": (
        lambda f: (f / "model.json").write_text('{"format": "lmexp-model-1", "config": {"name": "lstm"}}'),
        "theirs/model.json lacks 'sizes'",
    ),
    "a model that this lmexp does not have": (
        lambda f: (f / "model.json").write_text('{"format": "lmexp-model-1", "config": {"name": "mamba"}}'),
        "theirs/model.json: name: no model is called 'mamba'; this lmexp has ",
    ),
}


@pytest.mark.parametrize("what", WRONG_DOCUMENTS)
def test_what_is_wrong_with_our_own_safetensors_is_said_in_one_line(what: str) -> None:
    change, expected = WRONG_DOCUMENTS[what]
    source = exported("lstm", to="safetensors")
    change(source)
    assert refusal(source).startswith(expected)


def test_a_path_where_nothing_is_and_a_file_are_refused(folder: Path) -> None:
    assert refusal("nowhere").startswith("nowhere: nothing is there; give a folder with config.json")
    (folder / "a.txt").write_text("x")
    assert refusal("a.txt").startswith("a.txt: is no folder; give a folder with config.json")
    (folder / "empty").mkdir()
    assert refusal("empty") == "empty/config.json: No such file or directory"


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, 5, 2) + b"\0" * 40, b"no such file at all"]
)
def test_a_gguf_file_that_is_cut_or_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "a.gguf").write_bytes(content)
    assert refusal("a.gguf").startswith("a.gguf")
    assert refusal("nowhere.gguf").startswith("nowhere.gguf: nothing is there")


def test_an_imported_run_cannot_be_trained_for_longer_but_begun_with() -> None:
    from lmexp import compose, train
    from lmexp.errors import RunError

    run, _ = import_run(exported())
    with pytest.raises(RunError, match=r"was imported, not trained here; begin with its weights: init_from="):
        train(compose("train", [f"resume={run.path}", "trainer.max_steps=10"]))


def test_a_crash_while_importing_leaves_nothing_that_counts() -> None:
    source = exported()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "update", crash)
        with pytest.raises(KeyboardInterrupt):
            import_run(source)
    run, is_new = import_run(source)
    assert is_new
    assert json.loads((run.path / "run.json").read_text())["status"] == "done"
