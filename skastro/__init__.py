"""Self-supervised representations of astronomical images, as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skastro.catalogs import read_catalog
    from skastro.classifier import SelfSupervisedClassifier
    from skastro.cutouts import cut_stamps
    from skastro.datasets import make_survey
    from skastro.encoder import PropertyPretrainedEncoder
    from skastro.evaluation import LabelEfficiencyCurve, label_efficiency_curve, label_saving
    from skastro.folders import load_folder, load_survey
    from skastro.groups import find_duplicates, healpix_groups, merge_groups
    from skastro.inspection import Inspection, inspect_survey
    from skastro.matching import CatalogMatch, join_catalog, sky_positions
    from skastro.mosaics import write_survey
    from skastro.photometry import measure_properties
    from skastro.plots import LabelEfficiencyDisplay
    from skastro.probe import LinearProbe
    from skastro.scaling import AsinhScaler, to_rgb
    from skastro.stamps import Stamps, open_stamps
    from skastro.surveys import fetch_sdss

__version__ = "0.1.0.dev0"

__all__ = [
    "AsinhScaler",
    "CatalogMatch",
    "Inspection",
    "LabelEfficiencyCurve",
    "LabelEfficiencyDisplay",
    "LinearProbe",
    "PropertyPretrainedEncoder",
    "SelfSupervisedClassifier",
    "Stamps",
    "cut_stamps",
    "fetch_sdss",
    "find_duplicates",
    "healpix_groups",
    "inspect_survey",
    "join_catalog",
    "label_efficiency_curve",
    "label_saving",
    "load_folder",
    "load_survey",
    "make_survey",
    "measure_properties",
    "merge_groups",
    "open_stamps",
    "read_catalog",
    "sky_positions",
    "to_rgb",
    "write_survey",
]

# each name is imported when it is first asked for: reading a catalogue should not load torch
_HOMES = {
    "AsinhScaler": "scaling",
    "CatalogMatch": "matching",
    "Inspection": "inspection",
    "LabelEfficiencyCurve": "evaluation",
    "LabelEfficiencyDisplay": "plots",
    "LinearProbe": "probe",
    "PropertyPretrainedEncoder": "encoder",
    "SelfSupervisedClassifier": "classifier",
    "Stamps": "stamps",
    "cut_stamps": "cutouts",
    "fetch_sdss": "surveys",
    "find_duplicates": "groups",
    "healpix_groups": "groups",
    "inspect_survey": "inspection",
    "join_catalog": "matching",
    "label_efficiency_curve": "evaluation",
    "label_saving": "evaluation",
    "load_folder": "folders",
    "load_survey": "folders",
    "make_survey": "datasets",
    "measure_properties": "photometry",
    "merge_groups": "groups",
    "open_stamps": "stamps",
    "read_catalog": "catalogs",
    "sky_positions": "matching",
    "to_rgb": "scaling",
    "write_survey": "mosaics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
