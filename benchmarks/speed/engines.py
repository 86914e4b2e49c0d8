"""What other engines make of the default network on a CPU: speed, and how far embeddings differ.

    python -m benchmarks.speed.engines [--threads 1] [--rounds 7] [--stamps 1024]

An encoder with the default backbone learns from SDSS stamps, and embeds them by each engine, in
turn, in one process; one view of each stamp. The network is the same for all: batch norms folded,
exported by `export_onnx` where an engine reads ONNX. "int8" is onnxruntime's static quantisation,
for each channel, calibrated on training stamps. OpenVINO takes part if it is installed. The scores
are balanced accuracies of logistic regression on test rows that no training and no calibration has
seen.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._results import write_results
from benchmarks._stamps import load_task
from benchmarks.experiments._arms import standardised
from benchmarks.experiments.real_stamps import fit_encoder, probe_scores
from skastro import PropertyPretrainedEncoder, export_onnx
from skastro.networks.convolutions import fold_network
from skastro.networks.device import keep_memory, uses_bfloat16

BATCH = 64
COUNTS, REPEATS = [100, 300], 10
Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def torch_engines(encoder: PropertyPretrainedEncoder) -> dict[str, Engine]:
    """Return torch in float32 and, where the processor has it, in bfloat16; plain and compiled."""
    shape = encoder.image_shape_
    network = fold_network(encoder.network_.cpu().eval(), shape)
    network = network.to(memory_format=torch.channels_last)
    compiled = torch.compile(network.embed)

    def make(embed: Callable[[torch.Tensor], torch.Tensor], *, bfloat16: bool) -> Engine:
        def run(stamps: NDArray[np.float32]) -> NDArray[np.float32]:
            batch = torch.from_numpy(stamps).contiguous(memory_format=torch.channels_last)
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
            with torch.inference_mode(), autocast:
                return embed(batch).float().numpy()

        return run

    engines = {
        "torch": make(network.embed, bfloat16=False),
        "torch.compile": make(compiled, bfloat16=False),
    }
    if uses_bfloat16("auto", network, "cpu", image_shape=shape, training=False):
        engines["torch, bfloat16"] = make(network.embed, bfloat16=True)
        engines["torch.compile, bfloat16"] = make(compiled, bfloat16=True)
    return engines


def quantise(path: Path, stamps: NDArray[np.float32]) -> Path:
    """Write the network with int8 convolutions, calibrated on stamps; return its file."""
    from onnxruntime.quantization import (  # noqa: PLC0415 - an extra
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            starts = range(0, len(stamps), BATCH)
            self.batches = iter([{"stamps": stamps[k : k + BATCH]} for k in starts])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    prepared, target = path.with_suffix(".pre.onnx"), path.with_suffix(".int8.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
    )  # fmt: skip
    return target


def onnx_engines(path: Path, threads: int) -> dict[str, Engine]:
    """Return onnxruntime in float32 and int8."""
    import onnxruntime  # noqa: PLC0415 - an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    engines = {}
    for name, file in {
        "onnxruntime": path,
        "onnxruntime, int8": path.with_suffix(".int8.onnx"),
    }.items():
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        engines[name] = lambda stamps, session=session: session.run(
            ["embedding"], {"stamps": stamps}
        )[0]
    return engines


def openvino_engines(path: Path, threads: int) -> dict[str, Engine]:
    """Return OpenVINO in float32, in bfloat16, and in int8."""
    import openvino  # noqa: PLC0415 - not an extra

    core, engines = openvino.Core(), {}
    files = {
        "openvino": (path, "f32"), "openvino, bfloat16": (path, "bf16"),
        "openvino, int8": (path.with_suffix(".int8.onnx"), "f32"),
    }  # fmt: skip
    for name, (file, precision) in files.items():
        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        model = core.compile_model(core.read_model(str(file)), "CPU", hints)
        engines[name] = lambda stamps, model=model: model(stamps)[0]
    return engines


def time_engines(
    engines: dict[str, Engine], stamps: NDArray[np.float32], rounds: int
) -> dict[str, list[float]]:
    """Return the stamps a second of each engine, round by round in turn."""
    batches = [stamps[k : k + BATCH] for k in range(0, len(stamps) - BATCH + 1, BATCH)]
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            start = time.perf_counter()
            for batch in batches:
                engine(batch)
            speeds[name].append(BATCH * len(batches) / (time.perf_counter() - start))
    return speeds


def cosine(one: NDArray[Any], two: NDArray[Any]) -> float:
    """Return the mean cosine between two embeddings of the same stamps, about the mean of one."""
    one, two = one - one.mean(0), two - one.mean(0)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(((one * two).sum(1) / lengths).mean())


def main() -> None:
    """Measure each engine, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stamps", type=int, default=1024, help="to time each engine on")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    task = load_task("sdss")
    images = np.asarray(task.images, np.float32)
    encoder = fit_encoder(task, untrained=False, average_views=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        export_onnx(encoder, path)
        quantise(path, images[task.train[:512]])
        engines = torch_engines(encoder) | onnx_engines(path, options.threads)
        if find_spec("openvino"):
            engines |= openvino_engines(path, options.threads)
        found: dict[str, Any] = {}
        for name, engine in engines.items():
            parts = [engine(images[k : k + BATCH]) for k in range(0, len(images), BATCH)]
            embeddings = np.concatenate(parts)
            columns = standardised(embeddings, task.train)
            scores = probe_scores(task, columns, COUNTS, REPEATS)
            means = [float(np.mean(scores[count])) for count in COUNTS]
            found[name] = {"scores": means, "embeddings": embeddings}
        speeds = time_engines(
            engines, np.resize(images, (options.stamps, *images.shape[1:])), options.rounds
        )
    mean, scale = encoder.embedding_mean_, encoder.embedding_scale_
    lines = ["| engine | stamps a second | against torch | cosine | 100 labels | 300 labels |"]
    lines.append("| --- " * 6 + "|")
    reference = found["torch"]["embeddings"]
    for name, row in found.items():
        # torch returns features, the exported network standardised columns
        given = row.pop("embeddings")
        columns = (given - mean) / scale if name.startswith("torch") else given
        row["cosine"] = cosine((reference - mean) / scale, columns)
        row["speeds"] = speeds[name]
        ratios = [a / b for a, b in zip(speeds[name], speeds["torch"], strict=True)]
        row["ratio"] = statistics.median(ratios)
        cells = [
            f"{statistics.median(speeds[name]):.0f}",
            f"{row['ratio']:.2f}",
            f"{row['cosine']:.4f}",
        ]
        cells += [f"{value:.3f}" for value in row["scores"]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    settings = vars(options) | {"out": None}
    write_results(options.out, {"settings": settings, "engines": found}, "\n".join(lines))


if __name__ == "__main__":
    main()
