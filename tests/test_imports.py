"""What may import what (docs: the rooms), kept true by reading every import and every dangerous call of the package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmexp

ROOT = Path(lmexp.__file__).parent

FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}

LAYERS = [
    {"training", "evaluation", "serving", "interchange"},
    {"tasks", "checkpoints"},
    {"generation"},
    {"data", "optim", "metrics", "models", "corpus"},
    {"tokenization"},
    {"runs"},
    {"config"},
    {"errors"},
]
"""A room imports from rooms below it, or from its own layer; sweeps and cli stand above all."""

LOADERS = {
    "torch.load": {"checkpoints.py"},
    "importlib.import_module": {"__init__.py", "config/schema.py", "config/plugins.py"},
}
"""Where a call that could run a stranger's code has its one place, behind checks of its own."""

FORBIDDEN = {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load", *LOADERS}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "hydra.utils"}


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported name, dotted, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(file: str) -> set[str]:
    return {name.split(".")[1] for name in imports(FILES[file]) if name.startswith("lmexp.") and name.count(".")}


def importers(*packages: str) -> set[str]:
    """Return the files that import one of these packages."""
    return {file for file, tree in FILES.items() if {name.split(".")[0] for name in imports(tree)} & set(packages)}


def in_rooms(files: set[str], *rooms: str) -> list[str]:
    return sorted(file for file in files if room(file) in rooms)


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of every function that is called, with `as` and `from` undone."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = ast.unparse(node.func).partition(".")
            yield names.get(head, head) + dot + rest


def test_there_is_something_to_read() -> None:
    assert {"cli/train.py", "models/lstm.py", "config/compose.py"} <= set(FILES)
    assert "torch" in set(imports(FILES["models/lstm.py"]))


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_room_imports_only_from_rooms_below_it(file: str) -> None:
    level = next((number for number, rooms in enumerate(LAYERS) if room(file) in rooms), None)
    if level is None:
        return
    above = {name for rooms in LAYERS[:level] for name in rooms} | {"sweeps", "cli"}
    assert not rooms_imported(file) & above


def test_every_room_has_its_place() -> None:
    known = {name for rooms in LAYERS for name in rooms} | {"sweeps", "cli", "__init__", "__main__"}
    assert {room(file) for file in FILES} <= known


def test_models_know_neither_lightning_nor_data_and_data_knows_no_models() -> None:
    assert in_rooms(importers("pytorch_lightning", "lightning"), "models", "optim", "generation", "tokenization") == []
    assert [file for file in FILES if room(file) == "models" and "data" in rooms_imported(file)] == []
    assert [file for file in FILES if room(file) == "data" and "models" in rooms_imported(file)] == []


def test_runs_config_sweeps_and_the_door_never_import_torch() -> None:
    assert in_rooms(importers("torch", "pytorch_lightning"), "runs", "config", "sweeps", "cli", "errors") == []


def test_only_config_and_sweeps_know_hydra() -> None:
    assert {room(file) for file in importers("hydra", "omegaconf")} == {"config", "sweeps"}


def test_only_the_loggers_know_wandb() -> None:
    assert importers("wandb") <= {"training/loggers.py", "runs/sync.py"}


def test_the_door_imports_a_command_only_when_it_is_called() -> None:
    commands = [tree for file, tree in FILES.items() if room(file) == "cli"]
    at_the_top = [node for tree in commands for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = set(imports(ast.Module(body=at_the_top, type_ignores=[])))
    rooms = {".".join(name.split(".")[:2]) for name in names if name.startswith("lmexp")}
    assert rooms == {"lmexp.__version__", "lmexp.errors", "lmexp.cli"}


@pytest.mark.parametrize("file", sorted(FILES))
def test_nothing_runs_a_strangers_code(file: str) -> None:
    used = {name for name in calls(FILES[file]) if name in FORBIDDEN or name.endswith(".instantiate")}
    assert {name for name in used if file not in LOADERS.get(name, set())} == set()
    modules = {
        name for name in imports(FILES[file]) for module in FORBIDDEN_MODULES if f"{name}.".startswith(f"{module}.")
    }
    assert modules == set()


def test_weights_only_is_written_out_wherever_torch_loads() -> None:
    for file in LOADERS["torch.load"]:
        for node in ast.walk(FILES[file]):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]


def test_no_array_file_is_read_with_pickle() -> None:
    for file, tree in FILES.items():
        keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
        assert {ast.unparse(keyword.value) for keyword in keywords} <= {"False"}, file


def test_importing_lmexp_imports_neither_torch_nor_hydra() -> None:
    code = "import lmexp, sys; print(sorted({'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_lmexp_offers_is_there_and_nothing_else() -> None:
    assert all(hasattr(lmexp, name) for name in lmexp.__all__)
    with pytest.raises(AttributeError, match=r"^module 'lmexp' has no attribute 'nope'$"):
        lmexp.nope  # noqa: B018
