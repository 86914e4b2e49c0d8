"""Time and quality of clusters and projections of many embeddings.

    python -m benchmarks.speed.clustering [--rows 20000] [--columns 512] [--projection tsne]

A simulated mixture: twelve elongated groups of unequal size in a few dimensions, turned into all
columns, with noise. Imports and compilation are done before, on few rows.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from benchmarks._results import write_results
from skastro import EmbeddingClusterer, project_embedding

GROUPS = 12
DIMENSIONS = 8  # in which the groups differ


def simulate(rows: int, columns: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray]:
    """Return embeddings of columns of standard deviation 1, and the group of each row."""
    rng = np.random.default_rng(seed)
    group = rng.choice(GROUPS, size=rows, p=rng.dirichlet(np.full(GROUPS, 5.0)))
    centres = rng.normal(scale=3.0, size=(GROUPS, DIMENSIONS))
    shapes = rng.normal(scale=0.5, size=(GROUPS, DIMENSIONS, DIMENSIONS))
    inner = centres[group] + np.einsum(
        "nd,nde->ne", rng.normal(size=(rows, DIMENSIONS)), shapes[group]
    )
    E = inner @ rng.normal(size=(DIMENSIONS, columns)) + rng.normal(size=(rows, columns))
    return ((E - E.mean(axis=0)) / E.std(axis=0)).astype(np.float32), group


def main() -> None:
    """Cluster and project; write JSON and print it with a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--projection", choices=["tsne", "umap", "pca"], default="tsne")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()

    warm, _ = simulate(300, 64)
    EmbeddingClusterer(random_state=0).fit(warm)
    project_embedding(warm, method=options.projection, random_state=0)

    E, group = simulate(options.rows, options.columns)
    seconds = {}
    start = time.perf_counter()
    clusterer = EmbeddingClusterer(random_state=0).fit(E)
    seconds["cluster"] = time.perf_counter() - start
    start = time.perf_counter()
    clusterer.predict(E[:1000])
    seconds["predict 1,000"] = time.perf_counter() - start
    start = time.perf_counter()
    projection = project_embedding(E, method=options.projection, random_state=0, n_jobs=-1)
    seconds["project"] = time.perf_counter() - start

    result = {
        "rows": options.rows,
        "columns": options.columns,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {step: round(taken, 1) for step, taken in seconds.items()},
        "clusters": clusterer.n_clusters_,
        "noise": round(float(np.mean(clusterer.labels_ < 0)), 3),
        "adjusted_rand": round(adjusted_rand_score(group, clusterer.labels_), 3),
        "trustworthiness": round(projection.trustworthiness, 3),
    }
    lines = [f"| step, {options.rows:,} rows of {options.columns} | seconds |", "| --- | --- |"]
    lines += [f"| {step} | {taken:.1f} |" for step, taken in seconds.items()]
    write_results(options.out, result, "\n".join(lines))


if __name__ == "__main__":
    main()
