"""Estimators in several threads, and in forked and spawned processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from tests.conftest import make_stamps, tiny_encoder

ROOT = Path(__file__).parents[2]
MAX_SECONDS = 240  # a child that takes longer hangs

CHILD = """
import multiprocessing, sys
import numpy as np
import torch
from tests.conftest import make_stamps, tiny_encoder

def work(encoder, stamps, answers):
    answers.put(encoder.transform(stamps))

if __name__ == "__main__":
    torch.set_num_threads(2)
    stamps, _, properties = make_stamps(32, side=32)
    encoder = tiny_encoder(max_epochs=1).fit(stamps, properties=properties)
    expected = encoder.transform(stamps)  # the parent has threads now
    context = multiprocessing.get_context(sys.argv[1])
    answers = context.Queue()
    context.Process(target=work, args=(encoder, stamps, answers), daemon=True).start()
    embeddings = answers.get(timeout=float(sys.argv[2]))
    assert np.abs(embeddings - expected).max() < 1e-4, np.abs(embeddings - expected).max()
    print("equal")
"""


def in_threads(n, work):
    with ThreadPoolExecutor(n) as pool:
        return [future.result() for future in [pool.submit(work, i) for i in range(n)]]


def test_eight_threads_that_embed_get_the_numbers_of_one(survey):
    stamps, _, properties = survey
    expected = tiny_encoder().fit(stamps, properties=properties)
    embeddings, predictions = expected.transform(stamps), expected.predict(stamps)
    fresh = tiny_encoder().fit(stamps, properties=properties)  # nothing is cached in it yet
    results = in_threads(8, lambda _: (fresh.transform(stamps), fresh.predict(stamps)))
    for embedded, predicted in results:
        assert_array_equal(embedded, embeddings)
        assert predicted.equals(predictions)


def test_threads_that_embed_other_stamps_do_not_mix_them_up(survey, fitted):
    stamps = survey[0]
    parts = [stamps[i::8] for i in range(8)]
    expected = [fitted.transform(part) for part in parts]
    results = in_threads(8, lambda i: fitted.transform(parts[i]))
    for result, part in zip(results, expected, strict=True):
        assert_array_equal(result, part)


def test_threads_that_fit_get_what_one_after_another_gets():
    data = [make_stamps(40, seed=seed) for seed in range(2)]

    def fit(i):
        return tiny_encoder(random_state=i).fit(data[i][0], properties=data[i][2])

    before = torch.get_rng_state()
    expected = [fit(i).transform(data[i][0]) for i in range(2)]
    results = in_threads(2, lambda i: fit(i).transform(data[i][0]))
    for one, other in zip(results, expected, strict=True):
        assert_array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    assert not np.allclose(*expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_child_process_embeds_after_its_parent_did(kind, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-W", "ignore", script, kind, str(MAX_SECONDS)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=2 * MAX_SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "equal", done.stderr
