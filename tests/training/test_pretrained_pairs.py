"""A published seq2seq model learns pairs, writes from sources, and goes on as if it had not been stopped."""

from pathlib import Path

import pytest

from lmexp import compose, load_run, train
from lmexp.config import TrainConfig
from lmexp.errors import Stopped
from lmexp.evaluation.evaluate import evaluate
from lmexp.generation.forms import form_of
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import complete
from tests.models.tiny_pretrained import save, transformers
from tests.training.setups import outcome, stop_at, write_rows

CONFIGS = {
    "t5": transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, eos_token_id=1
    ),
    "bart": transformers.BartConfig(
        vocab_size=64,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=40,
        decoder_start_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=2,
    ),
}
MODELS = {"t5": transformers.T5ForConditionalGeneration, "bart": transformers.BartForConditionalGeneration}


def config_of(name: str, folder: Path, text_file: Path, *more: str) -> TrainConfig:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    path = folder / name
    if not path.exists():
        write_rows(text_file)
        save(MODELS[name](CONFIGS[name]), path)
        pieces = Tokenizer(models.BPE())
        pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        pieces.decoder = decoders.ByteLevel()
        special = ["<pad>", "</s>", "<s>"]
        trainer = trainers.BpeTrainer(vocab_size=64, special_tokens=special, show_progress=False)
        pieces.train_from_iterator([text_file.read_text()], trainer)
        wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>", pad_token="<pad>")
        wrapped.save_pretrained(path)
    lines = ["model=hf", "model.head=seq2seq", f"model.name_or_path={path}", "tokenizer=hf", "data=pairs"]
    options = ["data.path=pairs.tsv", "data.context_length=24", "data.batch_tokens=96", "task=seq2seq", "logger=none"]
    steps = ["trainer.max_steps=9", "trainer.validate_every_steps=3", "trainer.checkpoint_every_steps=2"]
    rest = [
        "task.num_written=4",
        "task.num_beams=2",
        "task.max_tokens=6",
        "trainer.progress_bar=false",
        "optimizer=adamw",
    ]
    samples = ["callbacks.samples.prompts=[the]", "callbacks.samples.max_tokens=4"]
    return compose("train", [*lines, *options, *steps, *rest, *samples, *more])


@pytest.mark.parametrize("name", CONFIGS)
def test_pairs_are_learned_and_written(
    name: str, folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config_of(name, folder, text_file, "output_dir=whole"))
    before, after = (row["val/loss_nats"] for row in whole.metrics if row["step"] in (0, 9) and "val/loss_nats" in row)
    assert after < before
    loaded = load_run(whole.path)
    assert loaded.model.first_target_id == CONFIGS[name].decoder_start_token_id
    found = evaluate(str(whole.path))["metrics"]
    assert found["test/loss_nats"] == pytest.approx(whole.record["metrics"]["test/loss_nats"], abs=1e-5)
    form = form_of(loaded.config, loaded.tokenizer)
    sampling = Sampling(max_tokens=6, temperature=0)
    together = [one.tokens for one in complete(loaded.model, form, ["the cat", "a dog ran on"], sampling)]
    alone = [next(complete(loaded.model, form, [one], sampling)).tokens for one in ("the cat", "a dog ran on")]
    assert together == alone
    stop_at(monkeypatch, 5)
    with pytest.raises(Stopped):
        train(config_of(name, folder, text_file, "output_dir=parts"))
    parts = train(config_of(name, folder, text_file, "output_dir=parts"))
    assert outcome(parts) == outcome(whole)
