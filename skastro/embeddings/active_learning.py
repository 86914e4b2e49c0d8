"""Choose the objects to label next: those whose labels say most about the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array

from skastro.probes.kernel_probe import KernelProbe
from skastro.probes.kernels import KERNEL_CONSTANT, ColumnGroup
from skastro.utils.validation import (
    check_groups,
    check_labels,
    check_properties,
    check_whole_number,
    draw_seed,
    plain_labels,
    plain_rows,
)

_STRATEGIES = ("auto", "typical", "uncertain")
_ONE_IN = 6  # questions, one is about an object drawn at random
_NOISE = 0.3  # variance of a label, where that of an object before any label is about 1
_N_CENTERS = 300  # rows from which the features of the kernel are made
_N_FEATURES = 200  # of them are kept
_N_CANDIDATES = 2000  # rows that are compared for one question
_RANK_POWER = 3  # of the uncertainty; larger ones ask for too many objects that are alike
_MIN_EIGENVALUE = 1e-6  # of the largest; smaller ones are rounding noise
_CHUNK_SIZE = 20_000  # rows whose features are computed at once
_Floats = NDArray[np.float32]


class LabelQueue:
    r"""Choose the object to ask a person for next, while labels grow.

    Every sixth object, beginning with the first, is drawn at random, so that the labels of these
    estimate an accuracy without bias. Each of the others is the one whose label says most about all
    objects. The outputs of a `KernelProbe` are the mean of a Gaussian process, whose covariances
    :math:`c` do not depend on what the labels are. A label of :math:`x` reduces the sum of the
    variances by

    .. math:: g(x) = \frac{\sum_z c(z, x)^2}{c(x, x) + \sigma^2} .

    Objects with the largest :math:`g` are "typical": each is similar to many others, in embedding
    and properties, and unlike those with a label. They are asked for as long as there is no
    classifier. Afterwards :math:`g` is multiplied by the third power of the rank of the object by
    the margin between its two most probable classes (1 for the smallest margin), so that the
    objects are "uncertain", too.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, d)
        Finite embeddings. Their columns are standardised here.
    properties : array-like or table of shape (n_rows, p), default=None
        Properties in any units, such as those that the encoder predicts and those measured from
        the pixels. NaN are missing, and replaced by the mean of the column.
    groups : array-like of shape (n_rows,), default=None
        Rows of one group show the same object. Only one of them is asked for.
    random_state : int, RandomState or None, default=None
        Seed of everything that is drawn.

    Raises
    ------
    ValueError
        The embeddings are not finite, or the other arguments have another number of rows.

    References
    ----------
    Yu, Bi and Tresp (2006), "Active learning via transductive experimental design", ICML.

    Examples
    --------
    >>> import numpy as np
    >>> centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    >>> embeddings = centres + np.random.default_rng(0).normal(size=(60, 2))
    >>> queue = LabelQueue(embeddings, random_state=0)
    >>> questions = queue.next(np.full(60, -1), 4)
    >>> [how for _, how in questions]
    ['random', 'typical', 'typical', 'typical']
    >>> sorted({row // 20 for row, _ in questions})
    [0, 1, 2]
    """

    def __init__(
        self,
        embeddings: ArrayLike,
        properties: Any = None,
        *,
        groups: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        values, measured = _read_columns(embeddings, properties)
        n = len(values)
        groups = check_groups(groups, n, rows_of="embeddings")
        self._groups = np.arange(n) if groups is None else groups
        self._rng = np.random.RandomState(draw_seed(random_state))
        self._order = self._rng.permutation(n)  # in which objects are drawn at random
        self._n_asked: int | None = None
        centers = np.sort(self._order[:_N_CENTERS])
        self._features = _kernel_features(values, measured if measured.size else values, centers)
        self._scatter: _Floats = self._features.T @ self._features / np.float32(n)

    def next(
        self,
        codes: ArrayLike,
        n: int = 1,
        *,
        probabilities: ArrayLike | None = None,
        excluded: Iterable[int] = (),
        at_random: bool = True,
    ) -> list[tuple[int, str]]:
        """Return the rows to ask for next, and how each was chosen.

        Parameters
        ----------
        codes : array-like of shape (n_rows,)
            Class of each row, a whole number from 0 on, or -1 for rows without a label.
        n : int, default=1
            Number of rows to choose.
        probabilities : array-like of shape (n_rows, k), default=None
            Probabilities of the classes with the codes 0 to k - 1, by the present classifier.
        excluded : iterable of int, default=()
            Rows that are not asked for, because they were skipped or are asked for already.
        at_random : bool, default=True
            Whether one question in six is about an object drawn at random.

        Returns
        -------
        questions : list of (int, str), at most n
            Row numbers, and "random", "typical" or "uncertain" for each. One in six questions is
            random: the first, the seventh and so on, where the labels that are there at the first
            call count as questions. The list is shorter than n if no more rows are left.

        Raises
        ------
        ValueError
            The codes or the probabilities do not have one row for each row of the embeddings.
        """
        codes = self._check_codes(codes)
        if self._n_asked is None:
            self._n_asked = int((codes >= 0).sum())
        first = self._n_asked if at_random else None
        questions = self._choose(codes, n, probabilities, excluded, first)
        self._n_asked += len(questions)
        return questions

    def rank_rare(
        self,
        codes: ArrayLike,
        wanted: int,
        *,
        excluded: Iterable[int] = (),
        prior: ArrayLike | None = None,
    ) -> list[int]:
        """Order the rows without a label, the most probable ones of a rare class first.

        Before the first example of the class, the order is that of ``prior``; without it, the
        objects that are least like all that have a label come first. Afterwards a kernel least
        squares orders them that gives both kinds of labels the same weight.

        Parameters
        ----------
        codes : array-like of shape (n_rows,)
            Class of each row, a whole number from 0 on, or -1 for rows without a label.
        wanted : int
            Code of the class that is searched for.
        excluded : iterable of int, default=()
            Rows that are left out.
        prior : array-like of shape (n_rows,), default=None
            Probability of the class before any label, for example by `load_pretrained`, or any
            other number that is larger for more probable rows.

        Returns
        -------
        rows : list of int
            Row numbers; at most one of each group, and none of a group with a label.

        Raises
        ------
        ValueError
            The codes or the prior do not have one number for each row of the embeddings.
        """
        codes = self._check_codes(codes)
        known = np.flatnonzero(codes >= 0)
        is_wanted = codes[known] == wanted
        if prior is not None and np.shape(prior) != codes.shape:
            raise ValueError(
                f"prior has shape {np.shape(prior)}: pass one number for each of the {len(codes)} "
                "rows."
            )
        if is_wanted.any():
            # every kind of label has the same weight altogether
            noise = _NOISE * np.where(is_wanted, is_wanted.mean(), 1 - is_wanted.mean()) * 2
            phi = self._features[known]
            dual = np.linalg.solve(phi @ phi.T + np.diag(noise), np.where(is_wanted, 1.0, -1.0))
            scores = self._features @ (phi.T @ dual).astype(np.float32)
        elif prior is not None:
            scores = np.asarray(prior, dtype=np.float64)
        else:
            scores = _quadratic(self._features, self._covariance(known))
        free = np.flatnonzero(~self._find_taken(codes, excluded))
        free = free[np.argsort(-scores[free], kind="stable")]
        _, first = np.unique(self._groups[free], return_index=True)
        return [int(row) for row in free[np.sort(first)]]

    def _check_codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        codes = np.asarray(codes)
        if codes.shape != self._groups.shape or codes.dtype.kind not in "iu":
            raise ValueError(
                f"codes has shape {codes.shape} and dtype {codes.dtype}: pass one whole number for "
                f"each of the {len(self._groups)} rows, -1 for no label."
            )
        return codes.astype(np.int64)

    def _find_taken(self, codes: NDArray[Any], excluded: Iterable[int]) -> NDArray[np.bool_]:
        """Return which rows cannot be asked for: they, or others of their group, were already."""
        taken = codes >= 0
        taken[np.fromiter(excluded, dtype=np.int64)] = True
        has_taken = np.zeros(self._groups.max() + 1, dtype=bool)
        has_taken[self._groups[taken]] = True
        return has_taken[self._groups]

    def _covariance(self, known: NDArray[np.int64]) -> _Floats:
        """Return the covariance of the weights of the features after labels of rows (r, r)."""
        phi = self._features[known].astype(np.float64)
        inner = np.linalg.solve(phi @ phi.T + _NOISE * np.eye(len(phi)), phi)
        return (np.eye(phi.shape[1]) - phi.T @ inner).astype(np.float32)

    def _choose(
        self,
        codes: NDArray[np.int64],
        n: int,
        probabilities: ArrayLike | None,
        excluded: Iterable[int],
        first: int | None,
    ) -> list[tuple[int, str]]:
        """Choose rows; ``first`` is the number of earlier questions, None for no random ones."""
        excluded = list(excluded)
        taken = self._find_taken(codes, excluded)
        weights = _weigh_margins(probabilities, codes)
        # excluded rows are soon labelled, or cannot be: others like them are not worth more
        known = np.union1d(np.flatnonzero(codes >= 0), np.asarray(excluded, dtype=np.int64))
        covariance = self._covariance(known)
        questions: list[tuple[int, str]] = []
        while len(questions) < n and not taken.all():
            if first is not None and (first + len(questions)) % _ONE_IN == 0:
                row, how = int(self._order[~taken[self._order]][0]), "random"
            else:
                row = self._find_best(np.flatnonzero(~taken), covariance, weights)
                how = "typical" if weights is None else "uncertain"
            questions.append((row, how))
            taken |= self._groups == self._groups[row]
            # what its label tells of the others
            phi = covariance @ self._features[row]
            covariance = covariance - np.outer(phi, phi) / (self._features[row] @ phi + _NOISE)
        return questions

    def _find_best(
        self, free: NDArray[np.int64], covariance: _Floats, weights: _Floats | None
    ) -> int:
        """Return the row whose label reduces the variance of all rows most, times its weight."""
        if len(free) > _N_CANDIDATES:
            free = self._rng.choice(free, _N_CANDIDATES, replace=False)
        phi = self._features[free]
        gain = _quadratic(phi, covariance @ self._scatter @ covariance)
        gain /= _quadratic(phi, covariance) + _NOISE
        return int(free[np.argmax(gain if weights is None else gain * weights[free])])


def suggest_labels(
    embeddings: ArrayLike,
    y: ArrayLike | None = None,
    *,
    n: int = 20,
    strategy: str = "auto",
    properties: Any = None,
    groups: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.int64]:
    r"""Choose the unlabelled objects whose labels are worth most.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, d)
        Finite embeddings. Their columns are standardised here.
    y : array-like of shape (n_rows,), default=None
        Classes of any dtype. Unlabelled rows are marked as for `SelfSupervisedClassifier`: -1,
        NaN, None, masked or blank. None means that no row is labelled yet.
    n : int, default=20
        Number of rows to choose.
    strategy : {"auto", "typical", "uncertain"}, default="auto"
        "typical" chooses rows that are similar to many others and unlike those with a label.
        "uncertain" fits a `KernelProbe` on the labelled rows, and prefers those typical rows of
        which it is unsure, by the margin between the two most probable classes. "auto" chooses
        typical rows until two classes have labels, and uncertain ones then; one in six, counting
        the labels that are there, is drawn at random.
    properties : array-like or table of shape (n_rows, p), default=None
        Properties in any units, such as those that the encoder predicts. NaN are missing.
    groups : array-like of shape (n_rows,), default=None
        Rows of one group show the same object. At most one of them is chosen, and none if one
        of them has a label.
    random_state : int, RandomState or None, default=None
        Seed of everything that is drawn.

    Returns
    -------
    rows : int64 array of shape (at most n,)
        Row numbers, in the order in which they should be labelled; fewer than ``n`` if no more
        rows are left.

    Raises
    ------
    ValueError
        An argument cannot be used, a group is missing, or no unlabelled row is left.

    Notes
    -----
    A label of the row :math:`x` reduces the variances of a Gaussian process with the kernel of
    `KernelProbe`, summed over all rows :math:`z`, by :math:`g(x) = \sum_z c(z, x)^2 / (c(x, x) +
    \sigma^2)`, where the covariances :math:`c` are those after the labels that are there (Yu et
    al. 2006). Typical rows have the largest :math:`g`; of uncertain ones it is multiplied by the
    third power of the rank of the margin.

    References
    ----------
    Yu, Bi and Tresp (2006), "Active learning via transductive experimental design", Proceedings of
    the 23rd International Conference on Machine Learning.

    Examples
    --------
    >>> import numpy as np
    >>> centres = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    >>> embeddings = centres + np.random.default_rng(0).normal(size=(60, 2))
    >>> rows = suggest_labels(embeddings, n=3, strategy="typical", random_state=0)
    >>> sorted((rows // 20).tolist())
    [0, 1, 2]
    """
    check_whole_number("n", n, least=1)
    if strategy not in _STRATEGIES:
        raise ValueError(f"strategy={strategy!r} must be one of {_STRATEGIES}.")
    values, measured = _read_columns(embeddings, properties)
    codes = _read_labels(y, len(values))
    queue = LabelQueue(values, measured, groups=groups, random_state=random_state)
    labelled = codes >= 0
    probabilities = None
    if strategy != "typical" and len(np.unique(codes[labelled])) > 1:
        columns = np.hstack([values, measured])
        probe = KernelProbe(measured.shape[1]).fit(columns[labelled], codes[labelled])
        probabilities = probe.predict_proba(columns)
    at_random = strategy == "auto"
    questions = queue.next(codes, n, probabilities=probabilities, at_random=at_random)
    if not questions:
        raise ValueError("y leaves no row to label: all rows, or their groups, have labels.")
    return np.array([row for row, _ in questions], dtype=np.int64)


def _read_columns(
    embeddings: ArrayLike, properties: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the standardised embeddings (n, d), and the properties (n, p), NaN if missing."""
    embeddings = plain_rows(embeddings, "embeddings")
    values = check_array(embeddings, dtype=np.float64, input_name="embeddings")
    values = StandardScaler().fit_transform(values)
    if properties is None or np.shape(properties)[1:] == (0,):
        return values, np.empty((len(values), 0))
    table = check_properties(properties, len(values), allow_empty=True)
    return values, table.to_numpy(np.float64)


def _read_labels(y: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Return classes as codes, -1 for none. Unlike in `check_labels`, all may be unlabelled."""
    if y is None:
        return np.full(n, -1)
    _, is_labelled = plain_labels(y)
    if len(is_labelled) != n:
        raise ValueError(
            f"y has {len(is_labelled)} labels, but embeddings has {n} rows: pass one each."
        )
    return check_labels(y)[1] if is_labelled.any() else np.full(n, -1)


def _kernel_features(
    embeddings: NDArray[Any], properties: NDArray[Any], centers: NDArray[np.int64]
) -> _Floats:
    """Return features (n, r) whose products are about the kernel of `KernelProbe` (Nyström)."""
    group = ColumnGroup.measure(embeddings, properties, centers)
    values, vectors = np.linalg.eigh(
        group.kernel(embeddings[centers], properties[centers]) + KERNEL_CONSTANT
    )
    kept = np.flatnonzero(values > _MIN_EIGENVALUE * values[-1])[-_N_FEATURES:]
    back = vectors[:, kept] / np.sqrt(values[kept])
    parts = []
    for start in range(0, len(embeddings), _CHUNK_SIZE):
        some = slice(start, start + _CHUNK_SIZE)
        part = (group.kernel(embeddings[some], properties[some]) + KERNEL_CONSTANT) @ back
        # unit length: bright or odd objects, which have long embeddings, count like the others
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        parts.append((part / np.maximum(lengths, _MIN_EIGENVALUE)).astype(np.float32))
    return np.vstack(parts)


def _weigh_margins(probabilities: ArrayLike | None, codes: NDArray[np.int64]) -> _Floats | None:
    """Return weights that are large where the classifier is unsure, None if there is none yet."""
    present = np.unique(codes[codes >= 0])
    if probabilities is None or len(present) < 2:
        return None
    values = np.asarray(probabilities)
    if values.ndim != 2 or len(values) != len(codes) or values.shape[1] <= present[-1]:
        raise ValueError(
            f"probabilities has shape {values.shape}: pass a row for each of the {len(codes)} "
            f"rows, and a column for each of the classes, at least {present[-1] + 1}."
        )
    largest = np.partition(values, -2, axis=1)[:, -2:]
    margins = largest[:, 1] - largest[:, 0]
    # use the ranks of the margins: unlike the margins, they hardly depend on the regularisation
    ranks = rankdata(-margins) / len(margins)
    return (ranks**_RANK_POWER).astype(np.float32)


def _quadratic(rows: _Floats, matrix: NDArray[Any]) -> _Floats:
    """Return the quadratic form of each row."""
    return np.einsum("ij,ij->i", rows @ matrix, rows)
