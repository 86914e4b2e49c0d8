"""Find labels that are probably wrong: those that the other labels contradict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import NotFittedError, check_is_fitted

from skastro.estimators.classifier import SelfSupervisedClassifier
from skastro.probes.kernel_probe import KernelProbe
from skastro.utils.validation import check_labels, plain_rows, take_rows

_TINY = 1e-9  # least probability: no class is excluded


def audit_labels(
    X: Any,
    y: ArrayLike,
    *,
    n_properties: int = 0,
    ids: ArrayLike | None = None,
    encoder: Any = None,
    noise: float = 0.05,
    random_state: int | None = 0,
) -> pd.DataFrame:
    r"""List the labels that are contradicted by all others, most likely wrong first.

    A classifier predicts each label from the other labels (leave-one-out, in closed form). The
    probability that a label is wrong follows from this prediction, from how frequent the classes
    are among the labels, and from the share of labels that are wrong.

    Parameters
    ----------
    X : array-like of shape (n, d), or stamps of shape (n, bands, height, width)
        Embeddings, with properties as the last columns if there are any, for `KernelProbe`. Or
        stamps, which a `SelfSupervisedClassifier` with ``strategy="probe"`` describes.
    y : array-like of shape (n,)
        Classes of any dtype. Rows without a label, which are left out, are marked as in
        `SelfSupervisedClassifier`.
    n_properties : int, default=0
        Number of properties at the end of the columns of ``X``, which may be NaN.
    ids : array-like of shape (n,), default=None
        Identifiers of the rows, for the result.
    encoder : PropertyPretrainedEncoder, default=None
        Fitted encoder for stamps. None pretrains one on them.
    noise : float, default=0.05
        Share of wrong labels that is expected, between 0 and 1. It hardly changes the order.
    random_state : int or None, default=0
        Seed of the pretraining, and of the centres of the kernel with more than 1,000 labels.

    Returns
    -------
    table : DataFrame
        One row for each label for which another class is more probable. Columns: ``row`` (int64,
        number of the row of ``X``), or ``id`` if ``ids`` are given; ``label``; ``suggested``, the
        most probable other class; ``probability`` (float64) that the label is wrong; and
        ``p_label`` (float64), the probability of the label as predicted from the others.

    Raises
    ------
    ValueError
        There are fewer than two classes, the lengths differ, or ``noise`` is out of range.

    Notes
    -----
    Let :math:`q_t` be the probability of class t for classes of equal frequency, :math:`f_t` the
    frequency of the class and :math:`\varepsilon` the share of wrong labels, which are spread
    evenly over the k - 1 other classes. A label y is wrong with the probability

    .. math:: \frac{\varepsilon / (k - 1) \sum_{t \ne y} f_t q_t}
              {(1 - \varepsilon) f_y q_y + \varepsilon / (k - 1) \sum_{t \ne y} f_t q_t} .

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> embeddings = np.repeat([[0.0, 0.0], [6.0, 0.0]], 30, axis=0) + rng.normal(size=(60, 2))
    >>> labels = np.repeat(["star", "galaxy"], 30)
    >>> labels[7] = "galaxy"
    >>> audit_labels(embeddings, labels)[["row", "label", "suggested"]]
       row   label suggested
    0    7  galaxy      star
    """
    if not 0 < noise < 1:
        raise ValueError(f"noise={noise!r} must be between 0 and 1: it is a share of labels.")
    classes, codes = check_labels(y)
    names = None if ids is None else np.asarray(ids)
    if names is not None and len(names) != len(codes):
        raise ValueError(f"ids has {len(names)} values, but y has {len(codes)}: pass one each.")

    # predict each label from the others
    rows = np.flatnonzero(codes >= 0)
    columns, probe = describe_rows(
        X, y, n_properties=n_properties, encoder=encoder, random_state=random_state
    )
    probe.fit(take_rows(columns, rows), codes[rows])
    weighted = probe.loo_probabilities_ * np.bincount(codes[rows]) + _TINY
    weighted /= weighted.sum(axis=1, keepdims=True)

    # compare it with the label
    places = np.arange(len(rows)), codes[rows]
    own = weighted[places]
    wrong = noise / (len(classes) - 1) * (1 - own)
    weighted[places] = -1.0
    suggested = weighted.argmax(axis=1)
    table = pd.DataFrame(
        {
            **({"row": rows} if names is None else {"id": names[rows]}),
            "label": classes[codes[rows]],
            "suggested": classes[suggested],
            "probability": wrong / (wrong + (1 - noise) * own),
            "p_label": own,
        }
    )[weighted.max(axis=1) > own]
    return table.sort_values("p_label", kind="stable", ignore_index=True)


def describe_rows(
    X: Any, y: ArrayLike, *, n_properties: int, encoder: Any, random_state: int | None
) -> tuple[NDArray[np.float64], KernelProbe]:
    """Return columns that describe the rows of X, and an unfitted probe for them.

    ``X`` are columns already, or stamps, which a classifier describes.
    """
    n_labels = len(check_labels(y)[1])
    if getattr(X, "ndim", 2) == 4:
        if encoder is not None and not isinstance(encoder, FrozenEstimator):
            try:
                check_is_fitted(encoder)
                encoder = FrozenEstimator(encoder)
            except NotFittedError:
                pass  # it is pretrained on these stamps
        model = SelfSupervisedClassifier(encoder, strategy="probe", random_state=random_state)
        model.fit(X, y)
        assert model.probe_ is not None  # noqa: S101 - the strategy makes one
        return model.describe(X), clone(model.probe_)
    columns = np.asarray(plain_rows(X), dtype=np.float64)
    if columns.ndim != 2 or len(columns) != n_labels:
        raise ValueError(
            f"X has shape {columns.shape}, but y has {n_labels} labels: pass (n, d) columns, or "
            "(n, bands, height, width) stamps, one row for each label."
        )
    return columns, KernelProbe(n_properties, random_state=random_state)
