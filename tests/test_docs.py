"""What the documents say is what happens."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lmexp
from lmexp import compose, train
from lmexp.errors import ConfigError
from lmexp.interchange.exporting import export

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [module.name for module in pkgutil.walk_packages(lmexp.__path__, "lmexp.") if "__main__" not in module.name]


def test_the_examples_in_docstrings_run() -> None:
    results = [doctest.testmod(importlib.import_module(name)) for name in MODULES]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


def test_the_error_in_the_readme_is_the_one_that_people_see(folder: Path) -> None:
    shown = re.search(r"\$ lmexp train (model\.hiden.*)\nerror:\n((?:  .*\n)+)", README)
    assert shown is not None
    with pytest.raises(ConfigError) as error:
        compose("train", shown[1].split())
    assert shown[2].splitlines() == [f"  {problem}" for problem in error.value.problems]


def test_every_key_and_option_that_the_readme_names_is_there(folder: Path) -> None:
    (folder / "my_book.txt").write_text("A book. " * 1000)
    shutil.copy("my_book.txt", "my.txt")
    rows = [json.dumps({"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"})]
    for name in ("my_chats.jsonl", "my_pairs.jsonl"):
        Path(name).write_text("\n".join(rows))
    for name in ("train.csv", "val.csv", "test.csv", "pairs.tsv"):
        Path(name).write_text("text,label\na,b\n")
    small = ["model=transformer_tiny", "trainer.max_steps=1", "logger=none", "callbacks=none", "name=RUN"]
    run = train(compose("train", [*small, "data=text", "data.path=my.txt", "tokenizer=characters"]))
    export(str(run.path), folder / "DIR")
    run.path.rename("RUN")
    lines = re.findall(r"^lmexp train ([^#\n]*=[^#\n]*)", README, flags=re.MULTILINE)
    single = [line.split() for line in lines if not line.startswith(("-m", "resume="))]
    assert len(single) >= 2
    for overrides in single:
        config = compose("train", overrides)
        assert any(
            option.partition("=")[2] in (config.model.name, config.data.name, config.name) for option in overrides
        )


def test_ci_runs_the_second_command_of_the_readme() -> None:
    command = re.search(r"^python3 -m venv .*pytest -n logical$", README, flags=re.MULTILINE)
    assert command is not None
    assert f"\n{command[0]}\n" in (ROOT / ".ci" / "run").read_text()


def test_constraints_pin_every_package_and_no_cuda() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if line.lower().startswith(("nvidia", "triton", "cuda"))]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_first_command_of_the_readme_works_on_a_bare_machine_and_so_does_a_wheel(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    command = re.search(r"^python3 -m venv .*lmexp train$", README, flags=re.MULTILINE)
    assert command is not None
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "OMP_NUM_THREADS")}
    environment |= {"LMEXP_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def shell(line: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    summary = shell(command[0], checkout)
    for part in ("val loss", "bits per byte", "perplexity", "tokens/s", "parameters", "samples", "next"):
        assert part in summary
    listed = json.loads(shell(". .venv/bin/activate && lmexp runs --json", checkout))
    assert [run["status"] for run in listed] == ["done"]
    written = shell(f". .venv/bin/activate && lmexp generate {Path(listed[0]['path']).name} --prompt The", checkout)
    assert written.startswith("The")

    activate = f". {checkout}/.venv/bin/activate"
    shell(f"{activate} && pip wheel -q --no-deps -w {tmp_path}/wheels .", checkout)
    shell(f"{activate} && pip install -q --no-deps --force-reinstall {tmp_path}/wheels/*.whl", checkout)
    empty = tmp_path / "empty"
    (empty / "conf" / "model").mkdir(parents=True)
    (empty / "conf" / "model" / "mine.yaml").write_text(
        "# My own size.\ndefaults: [/schema/model/lstm@_here_, _self_]\nhidden_size: 24\n"
    )
    shell(f"{activate} && lmexp train debug=fast model=mine", empty)
    run = json.loads(shell(f"{activate} && lmexp runs --json", empty))[0]
    assert run["status"] == "done"
    assert "hidden_size: 24" in (empty / run["path"] / "config.yaml").read_text()
