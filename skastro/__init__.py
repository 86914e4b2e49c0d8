"""Self-supervised representations of astronomical images, as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skastro.classifier import SelfSupervisedClassifier
    from skastro.datasets import load_folder, make_survey
    from skastro.encoder import PropertyPretrainedEncoder
    from skastro.evaluation import LabelEfficiencyCurve, label_efficiency_curve, label_saving
    from skastro.photometry import measure_properties
    from skastro.plots import LabelEfficiencyDisplay
    from skastro.scaling import AsinhScaler, to_rgb

__version__ = "0.1.0.dev0"

__all__ = [
    "AsinhScaler",
    "LabelEfficiencyCurve",
    "LabelEfficiencyDisplay",
    "PropertyPretrainedEncoder",
    "SelfSupervisedClassifier",
    "label_efficiency_curve",
    "label_saving",
    "load_folder",
    "make_survey",
    "measure_properties",
    "to_rgb",
]

# each name is imported when it is first asked for: reading a catalogue should not load torch
_HOMES = {
    "AsinhScaler": "scaling",
    "LabelEfficiencyCurve": "evaluation",
    "LabelEfficiencyDisplay": "plots",
    "PropertyPretrainedEncoder": "encoder",
    "SelfSupervisedClassifier": "classifier",
    "label_efficiency_curve": "evaluation",
    "label_saving": "evaluation",
    "load_folder": "datasets",
    "make_survey": "datasets",
    "measure_properties": "photometry",
    "to_rgb": "scaling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
