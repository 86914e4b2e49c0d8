"""
Are there enough labels, and are they right?
============================================

A person has named some galaxies. ``forecast_labels`` says how good a classifier is now and how good
it would be with more labels, and ``audit_labels`` lists the labels that are probably wrong.
"""

# %%
# Simulated galaxies stand for a survey. The weights of ``load_pretrained("galaxies")`` describe
# them, by an embedding and by properties in the last columns.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from skastro import (
    KernelProbe,
    LabelForecastDisplay,
    audit_labels,
    forecast_labels,
    load_pretrained,
    make_galaxies,
)

galaxies = make_galaxies(900, pictures=True, random_state=3)
teacher = load_pretrained("galaxies")
embeddings = teacher.transform(galaxies.images)
columns = np.hstack([embeddings, teacher.predict_embedded(embeddings)])
n_properties = columns.shape[1] - embeddings.shape[1]
truth = np.asarray(galaxies.target, dtype=str)

# %%
# How good is a classifier that learns from 60 of them, drawn at random, and what would more labels
# give? Only rows 0 to 59 have a label; the others have an empty one.
labels = np.where(np.arange(900) < 60, truth, "")
forecast = forecast_labels(
    columns, labels, n_properties=n_properties, label_counts=[90, 120, 180, 300, 400]
)
print(forecast.summary())

# %%
# Here the truth is known: the last 500 galaxies test what was said.
measured = pd.DataFrame({"n_labels": [60, 90, 120, 180, 300, 400], "value": np.nan})
for row, n in measured["n_labels"].items():
    probe = KernelProbe(n_properties).fit(columns[:n], truth[:n])
    predicted = probe.predict(columns[400:])
    measured.loc[row, "value"] = balanced_accuracy_score(truth[400:], predicted)
LabelForecastDisplay.from_result(forecast, history=measured)

# %%
# Now 400 are labelled, and one in twenty has got the label of another class by mistake. The audit
# predicts each label from all others, and begins with those that are most likely wrong.
rng = np.random.default_rng(0)
wrong = rng.choice(400, 20, replace=False)
labels = truth[:400].copy()
for row in wrong:
    labels[row] = rng.choice(np.setdiff1d(galaxies.target_names, labels[row]))
doubtful = audit_labels(columns[:400], labels, n_properties=n_properties)
doubtful["true"] = truth[doubtful["row"]]
print(doubtful.head(10).round(2).to_string(index=False))
found = np.isin(doubtful["row"], wrong)
print(f"{found[:20].sum()} of the first 20 are wrong labels; {found.sum()} of 20 are in the list")

# %%
# The six most doubtful galaxies: the label, and what the others suggest.
figure, panels = plt.subplots(1, 6, figsize=(9, 2.3), layout="constrained")
for axes, (_, row) in zip(panels, doubtful.head(6).iterrows(), strict=True):
    axes.imshow(galaxies.images[row["row"]].transpose(1, 2, 0))
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"{row['label']}?\n{row['suggested']}", fontsize=9)
plt.show()
