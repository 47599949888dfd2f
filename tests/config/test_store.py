"""A config survives its file unchanged, its identity is what changes the result, and a stranger's file is only data."""

import dataclasses
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from lmexp.config.options import default_options
from lmexp.config.roots import ROOTS
from lmexp.config.schema import OPTIONS, Option, Settings
from lmexp.config.store import differences, from_yaml, identity_hash, option_from_dict, to_dict, to_yaml
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import TrainerConfig
from lmexp.errors import RunError

ROOT_OF = {group: ROOTS[command] for command in ROOTS for group in default_options(command)}
EVERY_OPTION = [(group, name) for group, options in OPTIONS.items() for name in options]
OF_RUNS = [(group, name) for group, name in EVERY_OPTION if ROOT_OF[group] is TrainConfig]


def stored(path: Path, config: Settings) -> TrainConfig:
    file = path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    return from_yaml(file)


def refused(path: Path, text: str) -> str:
    """Return why a file is refused, without its path."""
    file = path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as caught:
        from_yaml(file)
    assert str(caught.value).startswith(str(file))
    return str(caught.value).removeprefix(str(file)).removeprefix(": ")


@pytest.mark.parametrize(("group", "name"), OF_RUNS)
def test_every_option_comes_back_as_it_was(group: str, name: str, tmp_path: Path) -> None:
    config = TrainConfig(**{group: OPTIONS[group][name]()})
    assert stored(tmp_path, config) == config


def test_odd_texts_and_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    config = TrainConfig(seed=2**70, name="null", project="1e3")
    config.callbacks.samples.prompts = ["\n", "", "äöü 漢字 🙂", "a: b # c", "\x00\x1b\u2028", "- x", "${seed}", "???"]
    config.optimizer.learning_rate = 1e-30
    config.trainer.extra = {"a": [1, {"b": None}], "c": 1.5}
    assert stored(tmp_path, config) == config


def test_a_text_that_looks_like_an_interpolation_stays_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "not for the run folder")
    config = TrainConfig(name="${oc.env:SECRET}", project="${seed}")
    again = stored(tmp_path, config)
    assert (again.name, again.project) == ("${oc.env:SECRET}", "${seed}")
    assert "not for the run folder" not in to_yaml(again)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [evil]", "!!python/name:os.system", "!mine 3"])
def test_python_tags_are_refused_and_not_run(tag: str, folder: Path) -> None:
    assert "could not determine a constructor for the tag" in refused(folder, f"seed: {tag}\n")
    assert not (folder / "evil").exists()


def test_unknown_keys_and_names_are_refused(tmp_path: Path) -> None:
    options = ", ".join(OPTIONS["model"])
    unknown = f"this lmexp has {options}; if it comes from a plug-in, name it with --plugin"
    assert refused(tmp_path, "sede: 1") == "sede: TrainConfig has no such key"
    assert refused(tmp_path, "1: 1") == "1: TrainConfig has no such key"
    assert refused(tmp_path, "model: {name: lstm, num_heads: 2}") == "model.num_heads: LSTMConfig has no such key"
    assert refused(tmp_path, "model: {name: lstm, _target_: os.system}") == "model._target_: LSTMConfig has no such key"
    assert refused(tmp_path, "model: {name: gpt9}") == f"model.name: no model is called 'gpt9'; {unknown}"
    assert refused(tmp_path, "model: {num_layers: 2}") == f"model.name: no model is called None; {unknown}"
    assert refused(tmp_path, "model: {name: [lstm]}") == f"model.name: no model is called ['lstm']; {unknown}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: x", "seed: must be a whole number, not 'x'"),
        ("seed: true", "seed: must be a whole number, not True"),
        ("seed: 1.0", "seed: must be a whole number, not 1.0"),
        ("seed: null", "seed: must be a whole number, not None"),
        ("model: 3", "model must hold keys and values"),
        ("- 1", "the file must hold keys and values"),
        ("", "the file must hold keys and values"),
        (
            "data: {name: text, order: [shuffled]}",
            "data.order: must be one of shuffled, contiguous, not ['shuffled']",
        ),
        (
            "callbacks: {name: standard, samples: {prompts: [1]}}",
            "callbacks.samples.prompts[0]: must be a text, not 1",
        ),
        ("trainer: {name: lightning, extra: {1: 2}}", "trainer.extra: must be keys with values, not {1: 2}"),
    ],
)
def test_values_of_another_type_are_refused(text: str, problem: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text) == problem


@pytest.mark.parametrize("text", ["seed: [1", "seed: 2001-99-99", "seed: \x01", "[" * 500], ids=range(4))
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text).startswith(" cannot be read: ")


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config.yaml cannot be read: .*No such file"):
        from_yaml(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RunError, match=r"config.yaml cannot be read: 'utf-8' codec can't decode"):
        from_yaml(tmp_path / "config.yaml")


def test_a_single_option_comes_back_from_its_dict() -> None:
    for name, schema in OPTIONS["tokenizer"].items():
        config = schema()
        assert option_from_dict(OPTIONS["tokenizer"], to_dict(config), "tokenizer.json") == config, name


def test_differences_are_dotted_keys_with_both_values() -> None:
    other = TrainConfig(seed=1, trainer=TrainerConfig(max_steps=7))
    assert differences(TrainConfig(), other) == {"seed": (0, 1), "trainer.max_steps": (800, 7)}
    lstm = TrainConfig(model=OPTIONS["model"]["lstm"](num_layers=4))  # type: ignore[arg-type]
    assert differences(TrainConfig(), lstm)["model.name"] == ("transformer", "lstm")


# Identity


def leaves(schema: type, prefix: str = "") -> typing.Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        annotation = hints[field.name]
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            if not issubclass(annotation, Option):
                yield from leaves(annotation, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, annotation


def another(value: Any, annotation: Any) -> Any:
    """Return a value that differs from a field's default."""
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list | dict):
        return [*value, "x"] if isinstance(value, list) else {"x": 1}
    return "x" if str in (annotation, *typing.get_args(annotation)) else 7


def changed(config: Any, key: str, annotation: Any) -> Any:
    *parents, leaf = key.split(".")
    block: Any = config
    for parent in parents:
        block = getattr(block, parent)
    setattr(block, leaf, another(getattr(block, leaf), annotation))
    return config


def every_key() -> typing.Iterator[Any]:
    for root in ROOTS.values():
        for key, field, annotation in leaves(root):
            yield pytest.param(root, key, field, annotation, id=key)
    for group, name in EVERY_OPTION:
        schema = OPTIONS[group][name]
        for key, field, annotation in leaves(schema, f"{group}."):
            make = lambda group=group, schema=schema: ROOT_OF[group](**{group: schema()})  # noqa: E731
            yield pytest.param(make, key, field, annotation, id=f"{name}-{key}")


@pytest.mark.parametrize(("make", "key", "field", "annotation"), list(every_key()))
def test_the_hash_changes_with_every_key_that_is_part_of_the_identity_and_no_other(
    make: typing.Callable[[], Any], key: str, field: dataclasses.Field[Any], annotation: Any
) -> None:
    is_same = identity_hash(changed(make(), key, annotation)) == identity_hash(make())
    assert is_same is not field.metadata["identity"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": OPTIONS["model"]["lstm"]()},
        *({"trainer": TrainerConfig(**c)} for c in ({"max_steps": 7}, {"precision": "bf16-mixed"}, {"accumulate": 2})),
    ],
    ids=["seed", "model", "max_steps", "precision", "accumulate"],
)
def test_what_makes_another_experiment_makes_another_hash(change: dict[str, Any]) -> None:
    assert identity_hash(TrainConfig(**change)) != identity_hash(TrainConfig())


def test_where_and_under_which_name_it_runs_makes_no_other_hash() -> None:
    elsewhere = TrainConfig(project="p", name="n", output_dir="o", resume="never", trainer=TrainerConfig(devices=4))
    assert identity_hash(elsewhere) == identity_hash(TrainConfig())


def test_other_data_makes_another_hash_and_the_hash_is_twelve_digits() -> None:
    one, two = (identity_hash(TrainConfig(), data=data) for data in ("a", "b"))
    assert one != two
    assert len(one) == 12
    assert int(one, 16) >= 0


def test_the_hash_survives_the_file(tmp_path: Path) -> None:
    config = TrainConfig(seed=3)
    assert identity_hash(stored(tmp_path, config)) == identity_hash(config)
