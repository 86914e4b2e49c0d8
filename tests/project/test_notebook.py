"""The page of ten minutes as a notebook: it runs in a kernel of Jupyter, and shows progress."""

from pathlib import Path

import pytest

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"
if not TOUR.is_file():
    pytest.skip("the docs are not beside these tests", allow_module_level=True)
jupytext = pytest.importorskip("jupytext")
nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
for name in ("galsim", "bokeh", "openTSNE"):
    pytest.importorskip(name, reason=f"the tour needs {name}")

# the tour with a small survey and short trainings; bars are shown at once
SMALL = """
import os, skastro
from skastro.estimators import classifier, encoder
from skastro.simulation.survey import make_survey as _make
from skastro.utils import progress
os.environ["MPLBACKEND"] = "agg"
skastro.make_survey = lambda n, **kwargs: _make(min(n, 430), image_size=12, **kwargs)
encoder.choose_epochs = lambda *_: 1
classifier._MIN_STEPS = classifier._MAX_STEPS = 2
progress._SECONDS_BEFORE_BAR = 0.0
"""


@pytest.mark.slow
def test_the_tour_runs_as_a_notebook(tmp_path):
    notebook = jupytext.read(TOUR)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALL))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()  # an error in a cell is raised
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "(430, 6, 12, 12) float32" in printed
    shown = printed + "".join(str(output.get("data", "")) for output in outputs)
    assert "pretraining" in shown, "the notebook shows no progress"
