# The one list of public names: type checkers read it, and lazy_loader imports from it.

__version__: str

from .catalogs.columns import select_columns as select_columns
from .catalogs.matching import (
    CatalogMatch as CatalogMatch,
    join_catalog as join_catalog,
)
from .catalogs.positions import sky_positions as sky_positions
from .catalogs.reading import read_catalog as read_catalog
from .embeddings.active_learning import suggest_labels as suggest_labels
from .embeddings.clustering import EmbeddingClusterer as EmbeddingClusterer
from .embeddings.embed_survey import (
    EmbeddedSurvey as EmbeddedSurvey,
    embed_survey as embed_survey,
)
from .embeddings.files import (
    Embeddings as Embeddings,
    read_embeddings as read_embeddings,
    write_embeddings as write_embeddings,
)
from .embeddings.neighbors import (
    SimilarObjects as SimilarObjects,
    find_similar as find_similar,
)
from .embeddings.outliers import outlier_scores as outlier_scores
from .embeddings.projection import (
    Projection as Projection,
    project_embedding as project_embedding,
)
from .embeddings.scores import (
    compare_representations as compare_representations,
    score_embedding as score_embedding,
)
from .estimators.classifier import SelfSupervisedClassifier as SelfSupervisedClassifier
from .estimators.encoder import PropertyPretrainedEncoder as PropertyPretrainedEncoder
from .estimators.onnx import export_onnx as export_onnx
from .estimators.pretrained import (
    list_pretrained as list_pretrained,
    load_pretrained as load_pretrained,
)
from .estimators.regressor import SelfSupervisedRegressor as SelfSupervisedRegressor
from .evaluation.calibration import (
    abstain as abstain,
    accuracy_by_magnitude as accuracy_by_magnitude,
    expected_calibration_error as expected_calibration_error,
    reliability_curve as reliability_curve,
    risk_coverage as risk_coverage,
)
from .evaluation.encoder_check import (
    EncoderCheck as EncoderCheck,
    check_encoder as check_encoder,
)
from .evaluation.explanation import (
    Explanation as Explanation,
    explain as explain,
)
from .evaluation.label_audit import audit_labels as audit_labels
from .evaluation.label_efficiency import (
    LabelEfficiencyCurve as LabelEfficiencyCurve,
    label_efficiency_curve as label_efficiency_curve,
)
from .evaluation.label_forecast import (
    AccuracyEstimate as AccuracyEstimate,
    LabelForecast as LabelForecast,
    estimate_accuracy as estimate_accuracy,
    forecast_labels as forecast_labels,
)
from .evaluation.label_saving import label_saving as label_saving
from .evaluation.property_ablation import (
    PropertyAblation as PropertyAblation,
    property_ablation as property_ablation,
)
from .networks.parallel import process_group as process_group
from .pages.explorer import write_explorer as write_explorer
from .pages.report import write_report as write_report
from .pages.thumbnails import write_thumbnails as write_thumbnails
from .plots.ablation import AblationDisplay as AblationDisplay
from .plots.clusters import ClusterDisplay as ClusterDisplay
from .plots.confusion import ConfusionDisplay as ConfusionDisplay
from .plots.explanation import ExplanationDisplay as ExplanationDisplay
from .plots.label_efficiency import LabelEfficiencyDisplay as LabelEfficiencyDisplay
from .plots.label_forecast import LabelForecastDisplay as LabelForecastDisplay
from .plots.magnitude import MagnitudeDisplay as MagnitudeDisplay
from .plots.projection import ProjectionDisplay as ProjectionDisplay
from .plots.property import PropertyDisplay as PropertyDisplay
from .plots.reliability import ReliabilityDisplay as ReliabilityDisplay
from .plots.similar import SimilarDisplay as SimilarDisplay
from .probes.kernel_probe import KernelProbe as KernelProbe
from .probes.linear_probe import LinearProbe as LinearProbe
from .simulation.files import write_survey as write_survey
from .simulation.galaxies import make_galaxies as make_galaxies
from .simulation.radio import make_radio_sources as make_radio_sources
from .simulation.survey import make_survey as make_survey
from .stamps.opening import open_stamps as open_stamps
from .stamps.photometry import measure_properties as measure_properties
from .stamps.rgb import to_rgb as to_rgb
from .stamps.scaling import AsinhScaler as AsinhScaler
from .stamps.stack import Stamps as Stamps
from .study.data import load_data as load_data
from .study.run import run_study as run_study
from .surveys.cutouts import cut_stamps as cut_stamps
from .surveys.folders import (
    load_folder as load_folder,
    load_survey as load_survey,
)
from .surveys.groups import (
    find_duplicates as find_duplicates,
    healpix_groups as healpix_groups,
    merge_groups as merge_groups,
)
from .surveys.inspection import (
    Inspection as Inspection,
    inspect_survey as inspect_survey,
)
from .surveys.sdss import fetch_sdss as fetch_sdss
from .surveys.survey import Survey as Survey
