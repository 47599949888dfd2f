"""A command line becomes a checked config, or everything that is wrong with it is said at once."""

import sys
from pathlib import Path

import pytest
import yaml

from lmexp import compose as public_compose
from lmexp.config.callbacks import CallbacksConfig, CheckpointConfig
from lmexp.config.check import problems_of
from lmexp.config.compose import compose, compose_trials
from lmexp.config.data import PythonDocsConfig, TextConfig
from lmexp.config.files import problems_of_choice
from lmexp.config.model import GPT2Config, LSTMConfig, ModelConfig, TransformerConfig
from lmexp.config.options import CONF
from lmexp.config.plugins import load_plugins
from lmexp.config.schedule import WSDConfig
from lmexp.config.schema import OPTIONS, Settings, built_class
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import SET_BY_LMEXP, Accelerator, TrainerConfig, lightning_trainer_options
from lmexp.errors import ConfigError
from tests.config.setups import MODELS, own, problems

pytestmark = pytest.mark.usefixtures("folder")


# What wins


def test_steps_on_the_command_line_take_the_place_of_a_recipes_epochs(folder: Path) -> None:
    assert compose("train", ["experiment=sft_demo"]).trainer.max_epochs == 3
    assert compose("train", ["experiment=sft_demo", "trainer.max_steps=5"]).trainer.max_epochs is None
    both = compose("train", ["experiment=sft_demo", "trainer.max_steps=5", "trainer.max_epochs=1"])
    assert both.trainer.max_epochs == 1


def test_a_block_of_keys_of_ones_own_is_given_as_a_whole(folder: Path) -> None:
    (folder / "chat.csv").touch()
    chosen = ["data=chat", "task=sft", "data.path=chat.csv"]
    given = "data.columns={prompt:question,completion:reply}"
    assert compose("train", [*chosen, given]).data.columns == {"prompt": "question", "completion": "reply"}  # type: ignore[attr-defined]
    assert compose("train", [*chosen, "+data.columns.prompt=ask"]).data.columns == {"prompt": "ask"}  # type: ignore[attr-defined]
    labelled = ["data=labelled", "task=classify", "data.path=chat.csv", "data.label_names={1:World,2:Sci/Tech}"]
    assert compose("train", labelled).data.label_names == {"1": "World", "2": "Sci/Tech"}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"data\.columns: must be keys with values, not 3"):
        compose("train", [*chosen, "data.columns=3"])


def test_without_overrides_the_defaults_compose() -> None:
    config = compose()
    assert (config.seed, config.display_name) == (0, "transformer-python_docs")
    assert isinstance(config.data, PythonDocsConfig)
    assert isinstance(config.model, TransformerConfig)


def test_the_public_name_is_the_same_function() -> None:
    assert public_compose is compose


def test_a_preset_wins_over_the_root() -> None:
    config = compose("train", ["model=lstm_tiny", "trainer=ddp_cpu", "callbacks=none"])
    assert isinstance(config.model, LSTMConfig)
    assert (config.model.num_layers, config.model.hidden_size) == (1, 64)
    assert config.trainer.devices == 2
    assert config.callbacks.samples.prompts == []


def test_the_root_comes_before_every_choice() -> None:
    # what stands in the root after a choice would silently undo it
    root = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    assert root["defaults"][:2] == ["schema/train@_global_", "_self_"]
    assert all(isinstance(choice, dict) for choice in root["defaults"][2:])


def test_an_override_wins_over_a_preset() -> None:
    config = compose("train", ["model.hidden_size=32", "model=lstm_tiny"])
    assert (config.model.num_layers, config.model.hidden_size) == (1, 32)


def test_an_experiment_wins_over_presets_and_an_override_over_the_experiment() -> None:
    Path("input.txt").write_text("text")
    lines = ["experiment=nanogpt_shakespeare_char", "data.path=input.txt", "model.num_layers=2"]
    config = compose("train", lines)
    assert isinstance(config.model, GPT2Config)
    assert (config.model.num_layers, config.data.context_length, config.trainer.max_steps) == (2, 64, 2000)


def test_a_debug_overlay_wins_over_an_experiment() -> None:
    Path("input.txt").write_text("text")
    config = compose("train", ["experiment=nanogpt_shakespeare_char", "data.path=input.txt", "debug=fast"])
    assert (config.trainer.max_steps, config.project, config.logger.name) == (2, "debug", "none")
    assert config.model.name == "gpt2"


def test_the_last_of_two_values_counts() -> None:
    config = compose("train", ["seed=1", "model=lstm", "debug=fast", "seed=2", "model=gpt2", "debug=null"])
    assert (config.seed, config.model.name, config.project) == (2, "gpt2", "lmexp")


def test_a_block_may_be_given_as_a_dict() -> None:
    assert compose("train", ["trainer={max_steps: 3, log_every_steps: 1}"]).trainer.max_steps == 3


# Everything that is wrong, at once


def test_all_problems_are_said_at_once() -> None:
    lines = [
        "model.hiden_size=3",
        "modle.hidden_size=3",
        "modle=lstm",
        "model=lsmt",
        "debug=quick",
        "trainer.max_steps=abc",
        "optimizer.learning_rate=null",
        "trainer.accumulate=0",
        "model.dropout=1",
        "data.order=sorted",
        "+stray=1",
        "+model.stray=1",
        "seed=[1",
        "word",
        "seed=1,2",
        "data.batch_size=5",
        "trainer.devices=2",
        "learning_rate=3",
        "model.tie_embeddings=maybe",
    ]
    assert sorted(problems(*lines)) == sorted(
        [
            "seed=[1: is not of the form key=value; quote what has spaces: 'key=\"a b\"'",
            "word: is not of the form key=value; quote what has spaces: 'key=\"a b\"'",
            f"model: has no option 'lsmt'; did you mean lstm?; options: {MODELS}",
            "debug: has no option 'quick'; options: fast, overfit, profile",
            "seed: is a sweep over several values: add -m, or write a list as [a,b]",
            "model.hiden_size: there is no such key; did you mean model.hidden_size?",
            "modle.hidden_size: there is no such key; did you mean model.hidden_size?",
            "modle: there is no such key; did you mean model?",
            "trainer.max_steps: must be a whole number, not abc",
            "optimizer.learning_rate: must be a number, not null",
            "data.order: must be one of shuffled, contiguous, not sorted",
            "stray: there is no such key",
            "model.stray: there is no such key",
            "learning_rate: there is no such key; did you mean optimizer.learning_rate?",
            "model.tie_embeddings: must be true or false, not maybe",
            "trainer.accumulate: must be at least 1, not 0",
            "model.dropout: must be at least 0, below 1, not 1.0",
            "data.batch_size: 5 rows cannot be shared evenly by 2 devices",
        ]
    )


def test_a_value_that_cannot_be_says_what_can() -> None:
    cases = {
        "data={path: a}": "data.path: the chosen data has no such key; "
        "it is a key of data=text, chat, preferences, labelled, pairs",
        "project.x=1": "project.x: there is no such key",
        "seed=": "seed: must be a whole number, not ''",
        "data.batch_size=a b": "data.batch_size: must be a whole number or auto, not 'a b'",
        "trainer.num_threads=true": "trainer.num_threads: must be a whole number or null, not true",
        "trainer.accumulate=1.5": "trainer.accumulate: must be a whole number, not 1.5",
        "callbacks.samples.prompts=a": "callbacks.samples.prompts: must be a list: [a,b], not a",
        "trainer.profiler=no": "trainer.profiler: must be one of simple, advanced, pytorch or null, not no",
        "callbacks.early_stopping=5": "callbacks.early_stopping: must be a block of keys, not 5",
        "trainer.precision=16": "trainer.precision: must be one of 32, bf16-mixed, not 16",
        "trainer.gradient_clip_norm=inf": "trainer.gradient_clip_norm: must be a finite number, not inf",
        "optimizer.learning_rate=1e400": "optimizer.learning_rate: must be a finite number, not inf",
        "optimizer.weight_decay=nan": "optimizer.weight_decay: must be a finite number, not nan",
    }
    assert sorted(problems(*cases)) == sorted(cases.values())


LAUNCHERS = "basic, joblib, submitit_local, submitit_slurm"


def test_a_choice_that_cannot_be_says_what_can() -> None:
    cases = {
        "~seed": "seed: is part of every run; ~ cannot take it away",
        "~model": "model: is part of every run; ~ cannot take it away",
        "+model=lstm": "+model: write model=lstm",
        "++tokenizer=bpe": "++tokenizer: write tokenizer=bpe",
        "model@data=lstm": "model@data: write model=lstm",
        "model=null": f"model: takes one of its options: {MODELS}",
        "optimizer=[sgd]": "optimizer: takes one of its options: muon, adamw, sgd",
        "debug=[fast,slow]": "debug: has no option 'slow'; options: fast, overfit, profile",
        "hydra/launcher=dask": "hydra/launcher: has no option 'dask'; options: " + LAUNCHERS,
    }
    assert sorted(problems(*cases)) == sorted(cases.values())


def test_a_key_of_another_option_names_that_option() -> None:
    assert problems("data.path=a.txt", "model=lstm", "model.num_heads=2") == [
        "data.path: the chosen data has no such key; it is a key of data=text, chat, preferences, labelled, pairs",
        "model.num_heads: the chosen model has no such key; "
        "it is a key of model=transformer, transformer_fast, gpt2, encoder, bert, encoder_decoder",
    ]


def test_a_value_that_is_left_open_is_named() -> None:
    assert problems("seed=???") == ["seed: ??? stands for a value that must be given"]


def test_interpolations_that_lead_nowhere_are_all_named() -> None:
    assert sorted(problems("name=${nope}", "seed=${oc.env:LMEXP_NOPE}", "output_dir=${model.nope}")) == [
        "name: Interpolation key 'nope' not found",
        "output_dir: Interpolation key 'model.nope' not found",
        "seed: \"Environment variable 'LMEXP_NOPE' not found\"",
    ]


def test_an_interpolation_becomes_its_value() -> None:
    assert compose("train", ["name='run-${seed}-${model.num_layers}'", "seed=3"]).name == "run-3-4"


def test_an_experiment_that_does_not_fit_the_chosen_model_is_said_once() -> None:
    # its keys of data=text must not be called unknown only because the experiment was left out
    assert problems("experiment=nanogpt_shakespeare_char", "model=lstm", "data.path=input.txt", "seed=-1") == [
        "conf/experiment/nanogpt_shakespeare_char.yaml: model.num_heads: the chosen model has no such key; "
        "it is a key of model=transformer, transformer_fast, gpt2, encoder, bert, encoder_decoder",
        "seed: must be at least 0, not -1",
    ]


# Relations


def test_relations_between_groups_are_checked_by_the_command_line() -> None:
    lines = ("data.order=contiguous", "tokenizer=characters", "tokenizer.end_of_document=false", "name=a/b")
    assert problems(*lines) == [
        "data.order: contiguous order carries a state from batch to batch, and transformer has none",
        "data.end_of_document: the tokenizer has no such token: set tokenizer.end_of_document=true too",
        "name: 'a/b' cannot be the name of a folder",
    ]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TrainConfig(project=""), "project: '' cannot be the name of a folder"),
        (TransformerConfig(num_heads=3), "num_heads: hidden_size 256 is not a multiple of 3 heads"),
        (TransformerConfig(hidden_size=12), "head_size: rotary positions need heads of even width"),
        (TransformerConfig(num_key_value_heads=3), "num_key_value_heads: 4 heads cannot share 3 evenly"),
        (TransformerConfig(num_heads=0), "num_heads: must be at least 1, not 0"),
        (GPT2Config(num_heads=3), "num_heads: hidden_size 256 is not a multiple of 3 heads"),
        (
            WSDConfig(warmup_steps=3, warmup_fraction=0.1),
            "warmup_steps: warmup_steps and warmup_fraction say the same thing twice; set all but one to null",
        ),
        (
            CallbacksConfig(checkpoint=CheckpointConfig(metric="train/loss_nats")),
            "checkpoint.metric: 'train/loss_nats' is not measured on the validation split; take one like val/loss_nats",
        ),
        (TextConfig(), "path: must be given: data.path=FILE, a folder, or a glob such as 'books/*.txt'"),
        (TextConfig(path="nowhere.txt"), "path: nothing is there: nowhere.txt"),
        (TrainerConfig(devices=None), "devices: null means every GPU; on this accelerator give a number"),
        (TrainerConfig(accelerator=Accelerator.mps, devices=2), "devices: mps has one device"),
    ],
)
def test_what_cannot_go_together_is_refused(config: Settings, problem: str) -> None:
    assert list(map(str, problems_of(config))) == [problem]


def test_a_glob_may_have_its_stars_in_folders() -> None:
    Path("books/a").mkdir(parents=True)
    Path("books/a/one.txt").write_text("text")
    for pattern in ("books/*/one.txt", "books/**/*.txt", "books/a/o*"):
        assert not list(TextConfig(path=pattern).check())
    assert list(TextConfig(path="books/**/*.md").check()) == [("path", "nothing is there: books/**/*.md")]


def test_fractions_that_leave_nothing_and_an_unknown_encoding_are_refused() -> None:
    Path("a.txt").write_text("text")
    data = TextConfig(path="a.txt", val_fraction=0.6, test_fraction=0.5, encoding="klingon")
    assert [key for key, _ in data.check()] == ["val_fraction", "encoding"]


def test_gpus_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmexp.config.trainer.count_gpus", lambda: 0)
    none = "no CUDA GPU was found on this machine; train with trainer=cpu"
    assert list(TrainerConfig(accelerator=Accelerator.gpu).check()) == [("accelerator", none)]
    monkeypatch.setattr("lmexp.config.trainer.count_gpus", lambda: 2)
    assert list(TrainerConfig(accelerator=Accelerator.gpu, devices=2).check()) == []
    three = list(TrainerConfig(accelerator=Accelerator.gpu, devices=3).check())
    assert three == [("devices", "3 GPUs asked for, this machine has 2")]


def test_a_bug_in_a_check_is_not_hidden_when_all_values_are_in_range() -> None:
    class Faulty(CallbacksConfig):
        def check(self):  # type: ignore[no-untyped-def]
            yield "ema_decay", 1 / 0

    with pytest.raises(ZeroDivisionError):
        list(problems_of(Faulty()))


# trainer.extra


def test_extra_takes_any_other_option_of_lightning() -> None:
    config = compose("train", ["+trainer.extra.detect_anomaly=true", "+trainer.extra.benchmark=false"])
    assert config.trainer.extra == {"detect_anomaly": True, "benchmark": False}


def test_extra_is_checked_against_lightning_and_what_lmexp_sets() -> None:
    lines = ("+trainer.extra.detect_anomally=true", "+trainer.extra.max_steps=3", "trainer.extra.benchmark=true")
    assert problems(*lines) == [
        "trainer.extra.benchmark: a key of your own needs a plus sign: +trainer.extra.benchmark=true",
        "trainer.extra.detect_anomally: pytorch_lightning.Trainer has no option 'detect_anomally'",
        "trainer.extra.max_steps: lmexp sets this option itself; use trainer.max_steps",
    ]


def test_the_options_read_from_lightnings_source_are_those_of_its_trainer() -> None:
    import inspect

    from pytorch_lightning import Trainer

    assert lightning_trainer_options() == set(inspect.signature(Trainer).parameters)
    assert set(SET_BY_LMEXP) <= lightning_trainer_options()


# The working folder's own conf/


def test_an_option_and_an_experiment_of_ones_own_are_found() -> None:
    own("model/mine", "# Mine.\ndefaults: [/schema/model/lstm@_here_, _self_]\nnum_layers: 7\n")
    own("model/narrow", "defaults: [mine, _self_]\nhidden_size: 8\n")
    own("experiment/try", "# @package _global_\ndefaults:\n  - override /model: narrow\nseed: 5\n")
    config = compose("train", ["experiment=try"])
    assert (config.model.num_layers, config.model.hidden_size, config.seed) == (7, 8, 5)


def test_a_working_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("a, [b]'s {c}=d")
    folder.mkdir()
    monkeypatch.chdir(folder)
    own("model/mine", "defaults: [/schema/model/lstm@_here_, _self_]\nnum_layers: 7\n")
    assert compose("train", ["model=mine"]).model.num_layers == 7


def test_every_mistake_in_a_file_of_ones_own_is_said_with_the_file() -> None:
    own(
        "experiment/wrong",
        """\
        # A recipe that forgot its first line.
        defaults:
          - override /modle: lstm
          - override /model: lsmt
          - /tokenizer: bytes
        sede: 3
        model: {hiden_size: 3, _target_: os.system}
        """,
    )
    assert problems("experiment=wrong", "seed=-1") == [
        "conf/experiment/wrong.yaml: must begin with the line: # @package _global_",
        "conf/experiment/wrong.yaml: modle: there is no such group; did you mean model?",
        f"conf/experiment/wrong.yaml: model: has no option 'lsmt'; did you mean lstm?; options: {MODELS}",
        "conf/experiment/wrong.yaml: write 'override /tokenizer: bytes', not '/tokenizer: bytes'",
        "conf/experiment/wrong.yaml: sede: there is no such key; did you mean seed?",
        "conf/experiment/wrong.yaml: model.hiden_size: there is no such key; did you mean model.hidden_size?",
        "conf/experiment/wrong.yaml: model._target_: there is no such key; "
        "a config is data and names nothing to import",
        "seed: must be at least 0, not -1",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("num_layers: 3\n", "needs a line that says whose keys it has: defaults: [/schema/model/lstm@_here_, _self_]"),
        ("defaults: [/schema/model/lsmt@_here_, _self_]\n", "there is no schema 'lsmt'; did you mean lstm?; schemas: "),
        ("defaults: [/schema/model/lstm, _self_]\n", "write /schema/model/lstm@_here_ in its defaults"),
        ("defaults: [lstm_tyni, _self_]\n", "model: has no option 'lstm_tyni'; did you mean lstm_tiny?; options: "),
        ("num_layers: [3\n", "line 2: expected ',' or ']', but got '<stream end>'"),
        ("num_layers: 3\nnum_layers: 4\n", "line 2: found duplicate key num_layers"),
        ("[1, 2]\n", "must hold keys and values"),
        ("just words\n", "needs a line that says whose keys it has"),
    ],
)
def test_a_wrong_option_of_ones_own_says_what_it_needs(text: str, problem: str) -> None:
    own("model/mine", text)
    first = next(problems_of_choice("model", "mine"))
    assert str(first).startswith(f"conf/model/mine.yaml: {problem}")


def test_a_value_that_does_not_fit_names_the_file_it_stands_in() -> None:
    own("model/mine", "defaults: [/schema/model/lstm@_here_, _self_]\nnum_layers: many\n")
    own("optimizer/mine", "defaults: [/schema/optimizer/sgd@_here_, _self_]\nmomentum: null\n")
    own("schedule/mine", "defaults: [/schema/schedule/constant@_here_, _self_]\ndecay_steps: 3\n")
    assert sorted(problems("model=mine", "optimizer=mine", "schedule=mine")) == [
        "conf/model/mine.yaml: model.num_layers: must be a whole number, not many",
        "conf/optimizer/mine.yaml: optimizer.momentum: must be a number, not null",
        "conf/schedule/mine.yaml: schedule.decay_steps: the chosen schedule has no such key; "
        "it is a key of schedule=wsd",
    ]


def test_a_file_that_is_not_utf8_is_refused_naming_the_file() -> None:
    own("experiment/latin", "").write_bytes(b"# @package _global_\nname: caf\xe9\n")
    message = "conf/experiment/latin.yaml: is not UTF-8 text: invalid continuation byte at byte 29"
    assert problems("experiment=latin") == [message]


def test_an_option_with_the_name_of_one_of_ours_is_refused_when_it_is_chosen() -> None:
    own("model/lstm", "defaults: [/schema/model/lstm@_here_, _self_]\nnum_layers: 7\n")
    message = "conf/model/lstm.yaml: lmexp has an option model=lstm of its own; give yours another name"
    assert problems("model=lstm") == [message]
    assert compose("train", ["model=gpt2"]).model.name == "gpt2"


def test_a_file_that_shadows_a_default_is_refused_too() -> None:
    own("trainer/cpu", "defaults: [/schema/trainer/lightning@_here_, _self_]\nmax_steps: 7\n")
    assert problems() == ["conf/trainer/cpu.yaml: lmexp has an option trainer=cpu of its own; give yours another name"]


def test_a_conf_folder_of_another_project_does_not_disturb() -> None:
    own("config", "db: mysql\n")
    own("db/mysql", "port: 1\n")
    own("model/theirs", "_target_: torch.nn.Linear\n")
    assert compose().model.name == "transformer"
    assert problems("db=mysql") == ["db: there is no such key"]


# Sweeps


def test_a_sweep_gives_a_config_for_every_combination() -> None:
    trials = compose_trials("train", ["model=lstm_tiny,gpt2", "seed=0,1,2", "trainer.max_steps=3"])
    assert len(trials) == 6
    assert {(trial.model.name, trial.seed, trial.trainer.max_steps) for trial in trials} == {
        (model, seed, 3) for model in ("lstm", "gpt2") for seed in (0, 1, 2)
    }


def test_a_sweep_may_use_range_choice_and_glob() -> None:
    trials = compose_trials("train", ["model=glob(lstm_*,exclude=lstm_attention)", "seed=range(0,2)"])
    assert len(trials) == 6
    assert {trial.model.hidden_size for trial in trials} == {64, 128, 650}


def test_the_problems_of_every_trial_are_said_once_before_the_first_runs() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_trials(
            "train", ["model=lstm,lsmt", "seed=0,-1,x", "trainer.accumulate=0", "model.dropout=interval(0,1)"]
        )
    assert sorted(str(caught.value).split("\n")) == [
        "model.dropout: an interval is searched: hydra/sweeper=optuna; a grid takes lists and range()",
        f"model: has no option 'lsmt'; did you mean lstm?; options: {MODELS}",
        "seed: must be a whole number, not x",
        "seed: must be at least 0, not -1",
        "trainer.accumulate: must be at least 1, not 0",
    ]


def test_of_a_large_sweep_every_value_is_checked_before_combinations() -> None:
    lines = ["seed=range(0,5)", "trainer.max_steps=1,2,3,4,5"]
    assert len(compose_trials("train", lines, at_most=12)) == 12
    with pytest.raises(ConfigError, match=r"^data.order: must be one of shuffled, contiguous, not sorted$"):
        compose_trials("train", ["data.order=shuffled,sorted", *lines], at_most=12)


# Plug-ins

PLUGIN = '''\
from dataclasses import dataclass

from lmexp.config.model import ModelConfig
from lmexp.config.schema import setting


@dataclass(kw_only=True)
class MineConfig(ModelConfig):
    """A model of my own."""

    name = "{name}"
    builds = "{module}:Mine"

    depth: int = setting(3, at_least=1)
    """How deep."""


class Mine:
    def __init__(self, config: MineConfig) -> None:
        self.depth = config.depth
'''


@pytest.fixture(autouse=True)
def _forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "model", dict(OPTIONS["model"]))
    for name in ("my_model", "my_other"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type] - so that the fixture takes it out
        monkeypatch.delitem(sys.modules, name)


def plugin(text: str = PLUGIN, file: str = "my_model.py", name: str = "mine") -> str:
    Path(file).write_text(text.replace("{name}", name).replace("{module}", Path(file).stem))
    return file


def test_the_option_of_a_plug_in_can_be_chosen_and_built() -> None:
    assert load_plugins([plugin()]) == [str(Path("my_model.py").resolve())]
    config = compose("train", ["model=mine", "model.depth=4"])
    assert isinstance(config.model, ModelConfig)
    assert built_class(config.model)(config.model).depth == 4


def test_the_keys_of_a_plug_in_are_checked_like_ours() -> None:
    load_plugins([plugin()])
    assert problems("model=mine", "model.depht=4", "model.depth=0") == [
        "model.depht: there is no such key; did you mean model.depth?",
        "model.depth: must be at least 1, not 0",
    ]


def test_a_plug_in_may_be_loaded_twice() -> None:
    assert load_plugins([plugin()]) == load_plugins(["my_model.py"])


def test_a_plug_in_that_takes_a_name_of_ours_is_refused() -> None:
    message = "^model=lstm: my_model.MineConfig takes the name of lmexp.config.model.LSTMConfig; give it another name$"
    with pytest.raises(ConfigError, match=message):
        load_plugins([plugin(name="lstm")])
    assert OPTIONS["model"]["lstm"] is LSTMConfig


def test_a_plug_in_without_builds_or_decorator_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'^model=mine: my_model.MineConfig needs a line builds = "module:Class"$'):
        load_plugins([plugin(PLUGIN.replace('    builds = "{module}:Mine"\n', ""))])
    load_plugins([plugin(PLUGIN.replace("@dataclass(kw_only=True)\n", ""), "my_other.py")])
    with pytest.raises(ConfigError, match=r"^model=mine: MineConfig needs @dataclass\(kw_only=True\)$"):
        compose("train", ["model=mine"])


def test_a_plug_in_that_cannot_be_loaded_says_why(folder: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^--plugin: no Python file is there: {folder / 'nope.py'}$"):
        load_plugins(["nope.py"])
    with pytest.raises(ConfigError, match=r"^--plugin: 'no_such_package.module' cannot be imported: No module named"):
        load_plugins(["no_such_package.module"])
    with pytest.raises(ConfigError, match=r"my_model.py, line 2: NameError: name 'nope' is not defined$"):
        load_plugins([plugin("import os\nnope\n")])
    with pytest.raises(ConfigError, match=r"my_model.py: SyntaxError: invalid syntax \(my_model.py, line 1\)$"):
        load_plugins([plugin("class class\n")])


def test_a_plug_in_with_the_name_of_a_module_is_refused_and_not_left_out_silently(folder: Path) -> None:
    message = f"^--plugin: {folder / 'json.py'}: Python has a module 'json' already; rename the file$"
    with pytest.raises(ConfigError, match=message):
        load_plugins([plugin(file="json.py")])


# A config is data


def test_a_config_names_nothing_to_import() -> None:
    reason = "there is no such key; a config is data and names nothing to import"
    assert problems("model._target_=os.system", "+data._target_=os.system", "+_target_=os.system") == [
        f"model._target_: {reason}",
        f"data._target_: {reason}",
        f"_target_: {reason}",
    ]


def test_python_tags_in_yaml_are_not_run(folder: Path) -> None:
    own("experiment/evil", "# @package _global_\nname: !!python/object/apply:os.mkdir [evil]\n")
    [problem] = problems("experiment=evil")
    assert problem.startswith("conf/experiment/evil.yaml: line 2: could not determine a constructor for the tag")
    assert not (folder / "evil").exists()
