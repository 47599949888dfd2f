"""The notebooks run from top to bottom, hold no outputs, and use the public API only."""

import ast
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ["quickstart", "compare_runs"]
ALLOWED = {
    "lmexp",
    "lmexp.generation.forms.form_of",
    "lmexp.generation.sampling.Sampling",
    "lmexp.generation.text.generate",
    "matplotlib.pyplot",
    "subprocess",  # the first cell only
    "sys",
}
SECONDS = 600


def cells(name: str, kind: str | None = None) -> list[dict[str, Any]]:
    every = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in every if kind in (None, cell["cell_type"])]


def sources(name: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(name, "code")]


def imports(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def test_these_are_all_notebooks() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_no_outputs_and_no_counts(name: str) -> None:
    assert [cell for cell in cells(name, "code") if cell["outputs"] or cell["execution_count"] is not None] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_of_code_installs_on_colab_and_does_nothing_where_lmexp_is(name: str) -> None:
    first = sources(name)[0]
    assert first == sources(NAMES[0])[0]
    assert "Google Colab" in first
    assert '"./lmexp-source[notebook]"' in first
    names: dict[str, Any] = {}
    exec(first, names)
    assert {"subprocess", "sys"} & set(names) == set()
    assert names["lmexp"].__name__ == "lmexp"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_the_public_api_and_has_no_logic_of_its_own(name: str) -> None:
    first, *rest = [ast.parse(source) for source in sources(name)]
    assert imports(first) <= {"lmexp", "subprocess", "sys"}
    assert set().union(*map(imports, rest)) <= ALLOWED - {"subprocess", "sys"}
    private = [node.attr for tree in rest for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [attribute for attribute in private if attribute.startswith("_")] == []
    kinds = ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.While | ast.Try
    assert [ast.unparse(node) for tree in rest for node in ast.walk(tree) if isinstance(node, kinds)] == []


@pytest.mark.notebook
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_top_to_bottom_in_under_ten_minutes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    start = time.monotonic()
    nbclient.NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert time.monotonic() - start < SECONDS
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == sum("plt.show()" in source for source in sources(name)) > 0
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert list(tmp_path.glob("outputs/*/*/run.json"))
