"""Find the structure of stamps without labels: project, cluster and score their representations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skastro.embeddings.clustering import EmbeddingClusterer
from skastro.embeddings.projection import Projection, project_embedding
from skastro.embeddings.scores import compare_representations
from skastro.evaluation.label_efficiency import METHOD
from skastro.utils.progress import report_to
from skastro.utils.threads import count_cores

_MIN_ROWS_APART = 1000  # a process needs longer to start than the work on fewer rows takes


@dataclass(eq=False)
class Structure:
    """What representations show without labels."""

    projections: dict[str, Projection]  # by representation
    clusterer: EmbeddingClusterer  # of the representation of the method
    scores: pd.DataFrame  # of all representations, by `compare_representations`


def find_structure(
    representations: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    *,
    groups: NDArray[Any] | None,
    side_by_side: bool,
    seed: int,
) -> Structure:
    """Project and cluster the representation of the method, and score all representations.

    With ``side_by_side`` the others are projected, too.
    """
    names = list(representations) if side_by_side else [METHOD]
    report, projections = report_to("projecting", len(names)), {}
    for done, name in enumerate(names):
        report(done)
        projections[name] = project_embedding(representations[name], random_state=seed)
    report_to("clustering")(0)
    clusterer = EmbeddingClusterer(random_state=seed).fit(representations[METHOD])
    settings: dict[str, Any] = {"groups": groups, "random_state": seed}
    own = {METHOD: representations[METHOD]}
    others = {name: each for name, each in representations.items() if name != METHOD}
    scores = [
        compare_representations(own, labels, clusterer=FrozenEstimator(clusterer), **settings)
    ]
    if others:
        scores.append(compare_representations(others, labels, **settings))
    return Structure(projections, clusterer, pd.concat(scores))


@contextmanager
def finding_structure(*args: Any, **params: Any) -> Iterator[Callable[[], Structure]]:
    """Run `find_structure` in a process beside this one, and give a function that waits for it.

    Most of its work cannot use a second core, so that it costs a study hardly any time while
    networks are trained. On one core, and for few rows, the function itself does the work. The
    process ends with the context.
    """
    find = partial(find_structure, *args, **params)
    if count_cores() < 2 or len(args[1]) < _MIN_ROWS_APART:
        yield find
        return
    with parallel_config("loky", inner_max_num_threads=1):
        results = Parallel(n_jobs=2, return_as="generator")([delayed(find)()])

    def wait() -> Structure:
        report_to("projecting and clustering")(0)
        return next(results)

    try:
        yield wait
    finally:
        with warnings.catch_warnings():  # of work that was not waited for
            warnings.simplefilter("ignore")
            results.close()
