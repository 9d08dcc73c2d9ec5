"""The notebooks run, at a small size: a cell with other values follows the cell of parameters, as papermill would put it there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.page_blocks import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL: dict[str, dict[str, Any]] = {
    "first_look": {"CLIPS": 20, "STEPS": 2, "BATCH": 4, "FOLDER": "first-look"},
    "embeddings": {"RUN": "first-look/run", "CLIPS": 3, "QUERIES": 2},
}
ORDER = ("first_look", "embeddings")  # the second uses what the first trained


def execute(name: str, folder: Path, values: dict[str, Any]) -> Any:
    """Run a notebook in `folder` and return it with its outputs. Raises nbclient's `CellExecutionError` where a cell fails."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    given = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(given))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def pictures(notebook: Any) -> int:
    return sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", ()))


def test_both_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel chooses: pictures go into the notebook
    made = {name: execute(name, tmp_path, SMALL[name]) for name in ORDER}
    assert set(ORDER) == {path.stem for path in NOTEBOOKS}
    assert pictures(made["first_look"]) >= 4 and pictures(made["embeddings"]) >= 2
    assert (tmp_path / "first-look" / "heat.mp4").stat().st_size > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in code) == 1
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
