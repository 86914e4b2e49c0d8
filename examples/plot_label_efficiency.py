"""How many labels pretraining saves.

Scores against the number of labels, for logistic regression on three inputs: the embeddings of a
pretrained network, the catalogue's magnitudes, and what can be measured on the pixels. Runs in
about a minute. With 420 stamps to pretrain on it only shows how it is done, and plain measurements
are hard to beat; `skastro study` compares more, on more stamps.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import (
    LabelEfficiencyDisplay,
    PropertyPretrainedEncoder,
    SelfSupervisedClassifier,
    label_efficiency_curve,
    label_saving,
    make_survey,
    measure_properties,
)

survey = make_survey(600, random_state=0, n_jobs=2)
magnitudes = survey.catalog.filter(like="mag_")

# %%
# The encoder is given unfitted: it is pretrained once on each split, on all but the test rows.
encoder = PropertyPretrainedEncoder("stamp_resnet10", properties="catalog+measured", random_state=0)
on_columns = make_pipeline(
    SimpleImputer(add_indicator=True),
    StandardScaler(),
    LogisticRegression(class_weight="balanced", max_iter=2000),
)
curve = label_efficiency_curve(
    {
        "pretrained": SelfSupervisedClassifier(encoder, strategy="probe", random_state=0),
        "catalogue": (on_columns, magnitudes),
        "aperture": (on_columns, measure_properties(survey.images, bands=survey.bands)),
    },
    survey.images,
    survey.target,
    label_counts=[30, 100, 300],
    n_repeats=5,
    properties=magnitudes,
    property_errors=survey.catalog.filter(like="err_"),
    random_state=0,
)

# %%
# Means with 95 % intervals over the draws of the labels, and the labels saved.
print(curve.summary().round(3).to_string(index=False))
for baseline in ("catalogue", "aperture"):
    saving = label_saving(curve, "pretrained", baseline).round(2)
    print(f"\nlabels saved over {baseline!r}\n{saving.to_string(index=False)}")
LabelEfficiencyDisplay.from_curve(curve, saving=("pretrained", "catalogue"))
plt.show()
