"""Self-supervised representations of astronomical images, as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skastro.ablation import PropertyAblation, property_ablation
    from skastro.calibration import (
        abstain,
        accuracy_by_magnitude,
        expected_calibration_error,
        reliability_curve,
        risk_coverage,
    )
    from skastro.catalogs import read_catalog
    from skastro.classifier import SelfSupervisedClassifier
    from skastro.clustering import EmbeddingClusterer
    from skastro.cutouts import cut_stamps
    from skastro.datasets import make_survey
    from skastro.distributed import EmbeddedSurvey, embed_survey
    from skastro.encoder import PropertyPretrainedEncoder
    from skastro.evaluation import LabelEfficiencyCurve, label_efficiency_curve, label_saving
    from skastro.explorer import write_explorer
    from skastro.folders import load_folder, load_survey
    from skastro.groups import find_duplicates, healpix_groups, merge_groups
    from skastro.inspection import Inspection, inspect_survey
    from skastro.interchange import export_onnx
    from skastro.kernel_probe import KernelProbe
    from skastro.matching import CatalogMatch, join_catalog, sky_positions
    from skastro.mosaics import write_survey
    from skastro.parallel import process_group
    from skastro.photometry import measure_properties
    from skastro.plots import LabelEfficiencyDisplay
    from skastro.probe import LinearProbe
    from skastro.projection_plots import ProjectionDisplay
    from skastro.projections import Projection, project_embedding
    from skastro.property_plots import PropertyDisplay
    from skastro.report import write_report
    from skastro.representations import compare_representations, score_embedding
    from skastro.scaling import AsinhScaler, to_rgb
    from skastro.score_plots import AblationDisplay, MagnitudeDisplay, ReliabilityDisplay
    from skastro.stamp_plots import ClusterDisplay, ConfusionDisplay
    from skastro.stamps import Stamps, open_stamps
    from skastro.suggestions import suggest_labels
    from skastro.surveys import fetch_sdss
    from skastro.thumbnails import write_thumbnails

__version__ = "0.1.0.dev0"

__all__ = [
    "AblationDisplay",
    "AsinhScaler",
    "CatalogMatch",
    "ClusterDisplay",
    "ConfusionDisplay",
    "EmbeddedSurvey",
    "EmbeddingClusterer",
    "Inspection",
    "KernelProbe",
    "LabelEfficiencyCurve",
    "LabelEfficiencyDisplay",
    "LinearProbe",
    "MagnitudeDisplay",
    "Projection",
    "ProjectionDisplay",
    "PropertyAblation",
    "PropertyDisplay",
    "PropertyPretrainedEncoder",
    "ReliabilityDisplay",
    "SelfSupervisedClassifier",
    "Stamps",
    "abstain",
    "accuracy_by_magnitude",
    "compare_representations",
    "cut_stamps",
    "embed_survey",
    "expected_calibration_error",
    "export_onnx",
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
    "process_group",
    "project_embedding",
    "property_ablation",
    "read_catalog",
    "reliability_curve",
    "risk_coverage",
    "score_embedding",
    "sky_positions",
    "suggest_labels",
    "to_rgb",
    "write_explorer",
    "write_report",
    "write_survey",
    "write_thumbnails",
]

# each name is imported when it is first asked for: reading a catalogue should not load torch
_HOMES = {
    "AblationDisplay": "score_plots",
    "AsinhScaler": "scaling",
    "CatalogMatch": "matching",
    "ClusterDisplay": "stamp_plots",
    "ConfusionDisplay": "stamp_plots",
    "EmbeddedSurvey": "distributed",
    "EmbeddingClusterer": "clustering",
    "Inspection": "inspection",
    "KernelProbe": "kernel_probe",
    "LabelEfficiencyCurve": "evaluation",
    "LabelEfficiencyDisplay": "plots",
    "LinearProbe": "probe",
    "MagnitudeDisplay": "score_plots",
    "Projection": "projections",
    "ProjectionDisplay": "projection_plots",
    "PropertyAblation": "ablation",
    "PropertyDisplay": "property_plots",
    "PropertyPretrainedEncoder": "encoder",
    "ReliabilityDisplay": "score_plots",
    "SelfSupervisedClassifier": "classifier",
    "Stamps": "stamps",
    "abstain": "calibration",
    "accuracy_by_magnitude": "calibration",
    "compare_representations": "representations",
    "cut_stamps": "cutouts",
    "embed_survey": "distributed",
    "fetch_sdss": "surveys",
    "expected_calibration_error": "calibration",
    "export_onnx": "interchange",
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
    "process_group": "parallel",
    "project_embedding": "projections",
    "property_ablation": "ablation",
    "read_catalog": "catalogs",
    "reliability_curve": "calibration",
    "risk_coverage": "calibration",
    "score_embedding": "representations",
    "sky_positions": "matching",
    "suggest_labels": "suggestions",
    "to_rgb": "scaling",
    "write_explorer": "explorer",
    "write_report": "report",
    "write_survey": "mosaics",
    "write_thumbnails": "thumbnails",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
