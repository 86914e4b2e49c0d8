"""The gain of each set of properties as targets, on real stamps (`skastro.property_ablation`).

    python -m benchmarks.experiments.property_sets sdss --n-splits 3 --out property_sets_sdss.json
    python -m benchmarks.experiments.property_sets efigi --n-splits 3 --out property_sets_efigi.json

Every set pretrains the default encoder on all rows but the test rows (30 %), and a probe learns
from the same label subsets. "measured" is what `measure_properties` finds in the pixels; the
visual attributes of EFIGI are human labels, in a row of their own to show how far targets can go.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks._results import write_results
from benchmarks._stamps import Task
from benchmarks.experiments._arms import load_some, make_parser
from skastro import (
    LabelEfficiencyCurve,
    PropertyPretrainedEncoder,
    measure_properties,
    property_ablation,
)
from skastro.evaluation.property_ablation import PropertyAblation

BANDS = "ugriz"
SHAPE = ["half_light_radius", "concentration", "ellipticity", "asymmetry"]
ATTRIBUTES = [
    "bulge_to_total", "arm_strength", "arm_curvature", "arm_rotation", "bar_length", "inner_ring",
    "outer_ring", "pseudo_ring", "perturbation", "visible_dust", "dust_dispersion", "flocculence",
    "hot_spots", "inclination", "contamination", "multiplicity",
]  # fmt: skip
EFIGI_CATALOG = ["redshift", "log_d25_01arcmin", "log_r25", "B_T_mag", "B_V_T"]
MEASURED_SHAPE = [f"pixels_{name}" for name in SHAPE]
SETS = {
    "sdss": {
        "untrained": [],
        "magnitudes": "mag_?",
        "colours": "?_?",
        "redshift": "redshift",
        "magnitudes, colours": ["mag_?", "?_?"],
        "catalogue: magnitudes, colours, redshift": ["mag_?", "?_?", "redshift"],
        "size and shape, measured": MEASURED_SHAPE,
        "measured": "measured",
        "magnitudes + measured": ["mag_?", "measured"],
        "magnitudes, colours + measured": ["mag_?", "?_?", "measured"],
        "catalogue + measured": ["mag_?", "?_?", "redshift", "measured"],
    },
    "efigi": {
        "untrained": [],
        "magnitude": "B_T_mag",
        "colour": "B_V_T",
        "size and shape": ["log_d25_01arcmin", "log_r25"],
        "redshift": "redshift",
        "catalogue: all of these": EFIGI_CATALOG,
        "colours, measured": "pixels_band?_band?",
        "size and shape, measured": MEASURED_SHAPE,
        "measured": "measured",
        "catalogue + measured": [*EFIGI_CATALOG, "measured"],
        "visual attributes (human labels)": ATTRIBUTES,
    },
}
REFERENCE = "catalogue + measured"


def sdss_properties(catalog: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return magnitudes, dereddened colours and redshift, and their errors where known."""
    colours = [f"{blue}_{red}" for blue, red in pairwise(BANDS)]
    table = catalog[[*(f"mag_{band}" for band in BANDS), *colours, "redshift"]]
    errors = {f"mag_{band}": catalog[f"err_{band}"] for band in BANDS}
    for colour in colours:
        blue, red = colour.split("_")
        errors[colour] = np.hypot(catalog[f"err_{blue}"], catalog[f"err_{red}"])
    errors["redshift"] = catalog["redshift_err"]
    errors = pd.DataFrame(errors)
    return table, errors.where(errors > 0)  # the pipeline's failures have negative ones


def find_properties(task: Task, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all that the sets choose from, and the errors; NaN where unknown."""
    if name == "sdss":
        table, errors = sdss_properties(task.catalog)
    else:
        table = task.catalog[EFIGI_CATALOG + ATTRIBUTES]
        errors = pd.DataFrame(np.nan, index=table.index, columns=table.columns)
    measured, measured_errors = measure_properties(task.images, return_errors=True)
    return (
        pd.concat([table, measured.add_prefix("pixels_")], axis=1),
        pd.concat([errors, measured_errors.add_prefix("pixels_")], axis=1),
    )


def ablate(task: Task, options: argparse.Namespace) -> Iterator[PropertyAblation]:
    """Run set after set, and yield what there is after each: the splits are the same for all."""
    properties, errors = find_properties(task, options.task)
    done: dict[str, PropertyAblation] = {}
    for name in options.sets or SETS[options.task]:
        done[name] = property_ablation(
            PropertyPretrainedEncoder(max_epochs=options.epochs, random_state=0),
            task.images,
            task.labels,
            properties=properties,
            property_errors=errors,
            sets={name: SETS[options.task][name]},
            label_counts=options.counts,
            n_repeats=options.repeats,
            n_splits=options.n_splits,
            random_state=options.seed,
        )
        print(f"{len(done)}: {name}", flush=True)
        yield join(done)


def join(ablations: dict[str, PropertyAblation]) -> PropertyAblation:
    """Return ablations of one set each as one, compared with the reference where it was run."""
    scores = pd.concat([each.curve.scores for each in ablations.values()], ignore_index=True)
    sets = {name: each.sets[name] for name, each in ablations.items()}
    reference = REFERENCE if REFERENCE in sets else next(iter(sets))
    return PropertyAblation(LabelEfficiencyCurve.from_scores(scores), sets, reference)


def describe(ablation: PropertyAblation) -> str:
    """Return Markdown tables of mean scores and of paired differences, with 95 % intervals."""
    summary = ablation.summary().set_index(["set", "n_labels"])
    counts = ablation.curve.label_counts
    header = ["| targets | " + " | ".join(map(str, counts)) + " |"]
    header.append("| --- " * (len(counts) + 1) + "|")
    tables = []
    for value, high, form in (
        ("mean", "high", "{:.3f}"),
        ("difference", "difference_high", "{:+.3f}"),
    ):
        lines = list(header)
        for name in ablation.sets:
            if value == "difference" and name == ablation.reference:
                continue
            cells = []
            for count in counts:
                row = summary.loc[(name, count)]
                reach = row[high] - row[value]
                spread = f" ± {reach:.3f}" if np.isfinite(reach) else ""
                cells.append(form.format(row[value]) + spread)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return (
        f"Balanced accuracy by number of labels\n\n{tables[0]}\n\n"
        f"Difference to {ablation.reference!r} on the same runs\n\n{tables[1]}"
    )


def parse_sets(text: str) -> list[str]:
    """Read "measured;redshift" as names of sets."""
    return [part.strip() for part in text.split(";")]


def main() -> None:
    """Run one task, print tables and write them."""
    parser = make_parser(__doc__, splits=False)
    parser.add_argument("task", choices=list(SETS), default="sdss", nargs="?")
    parser.add_argument("--sets", type=parse_sets, default=None, help="names, between semicolons")
    parser.add_argument("--epochs", type=int, default=None, help="None is the default's")
    parser.add_argument("--n-splits", type=int, default=1, help="draws of the test rows")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    if unknown := [name for name in options.sets or [] if name not in SETS[options.task]]:
        parser.error(f"{unknown[0]!r} is no set of {options.task}: {', '.join(SETS[options.task])}")

    start = time.perf_counter()
    for ablation in ablate(load_some(options.task, 0, options.stamps), options):
        result = {
            "task": options.task,
            "seconds": time.perf_counter() - start,
            "sets": ablation.sets,
            "reference": ablation.reference,
            "summary": ablation.summary().to_dict("records"),
            "scores": ablation.scores.to_dict("records"),
        }
        write_results(options.out, result, describe(ablation))


if __name__ == "__main__":
    main()
