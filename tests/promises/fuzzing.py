"""Read damaged and hostile files: small real files altered at random, and crafted files.

`run` reads them in processes of limited memory and time. It collects the files for which reading
neither returns data nor raises a ValueError or FileNotFoundError of one sentence that names the
file.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from PIL import Image

MAX_CPU_SECONDS = 20  # for one file
MAX_SECONDS = 300  # of wall time for one file, which ends reads that wait for ever
MAX_MEMORY = 2**31  # bytes of address space in addition to those of the libraries
WRONG_NUMBERS = (
    b"0",
    b"-1",
    b"3",
    b"65536",
    b"4294967295",
    b"1000000000000",
    b"1e400",
    b"NaN",
    b"9" * 30,
)
ROOT = Path(__file__).parents[2]


def run(kind, count, folder):
    """Read `count` altered files, or the crafted files if it is 0; return the failures."""
    faults, first = [], 0
    current = Path(folder, "current")
    while True:
        current.unlink(missing_ok=True)
        done = subprocess.run(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-m", "tests.promises.fuzzing", kind, str(first), str(count), folder],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        faults += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == 0:
            return faults
        assert current.exists(), done.stderr  # the unaltered files cannot be read
        assert done.returncode < 0, done.stderr  # the altering failed: no signal ended the process
        number = int(current.read_text())
        faults.append({"number": number, "ended": signal.strsignal(-done.returncode)})
        first = number + 1


# ---- files to start from


def _catalog():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"{i}" for i in range(1237648720693755918, 1237648720693755930)],
            "ra": rng.uniform(0, 360, 12),
            "mag_g": rng.normal(20, 1, 12).astype("f4"),
            "n": rng.integers(0, 9, 12),
            "class": ["star", "galaxy", 'a "b", c'] * 4,
        }
    )


def _write_catalogs(folder):
    frame = _catalog()
    table = Table.from_pandas(frame)
    for name in ("id", "class"):
        table[name] = np.array(table[name].tolist(), dtype=str)
    table["mag_g"].unit = "mag"
    frame.to_csv(folder / "c.csv", index=False)
    frame.to_parquet(folder / "c.parquet")
    table.write(folder / "c.fits")
    (folder / "c.fits.gz").write_bytes(gzip.compress((folder / "c.fits").read_bytes(), mtime=0))
    table.write(folder / "c.ecsv")
    table.write(folder / "c.vot", format="votable")
    table.write(folder / "binary.vot", format="votable", tabledata_format="binary2")


def _write_stamps(folder):
    import h5py  # noqa: PLC0415 - of these files alone
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    import zarr  # noqa: PLC0415

    pixels = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype("f4")
    np.save(folder / "stack.npy", pixels)
    for version in (2, 3):
        store = zarr.create_array(
            folder / f"v{version}.zarr", shape=pixels.shape, dtype="f4", chunks=(2, 2, 8, 8),
            zarr_format=version,
        )  # fmt: skip
        store[:] = pixels
    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("stamps", data=pixels, chunks=(1, 2, 8, 8), compression="gzip")
    np.savez(folder / "plain.npz", stamps=pixels)
    np.savez_compressed(folder / "packed.npz", stamps=pixels)
    table = pa.table({"image": pixels.tolist(), "id": [1, 2, 3]})
    pq.write_table(table, folder / "t.parquet", row_group_size=2)
    with (
        pa.OSFile(str(folder / "t.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as s,
    ):
        s.write_table(table)
    (folder / "files").mkdir()
    np.save(folder / "files/image.npy", pixels[0])
    fits.PrimaryHDU(pixels[0]).writeto(folder / "files/cube.fits")
    hdus = [
        fits.PrimaryHDU(),
        *(fits.ImageHDU(p, name=n) for p, n in zip(pixels[0], "gr", strict=True)),
    ]
    fits.HDUList(hdus).writeto(folder / "files/bands.fits")
    zipped = gzip.compress((folder / "files/bands.fits").read_bytes(), mtime=0)
    (folder / "files/zipped.fits.gz").write_bytes(zipped)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels[0, 0])]).writeto(
        folder / "files/tiles.fits.fz"
    )
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16, 3), "u1"))
    for ending in ("png", "jpg", "tif"):
        picture.save(folder / f"files/p.{ending}")
    picture.convert("P").save(folder / "files/palette.png")


def small_module():
    """Return an architecture of a few hundred weights."""
    from torch import nn  # noqa: PLC0415 - catalogues need no torch

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def _write_encoders(folder):
    from tests.conftest import make_stamps, tiny_encoder  # noqa: PLC0415 - they import torch

    stamps, _, properties = make_stamps(12)
    encoder = tiny_encoder(backbone=small_module(), max_epochs=1)
    encoder.fit(stamps, properties=properties).save(folder / "e.safetensors")


WRITERS = {"catalogs": _write_catalogs, "stamps": _write_stamps, "encoders": _write_encoders}


# ---- alterations


def _span(rng, size):
    start = int(rng.integers(0, max(1, size)))
    return start, min(size, start + int(2 ** rng.uniform(0, 9)))


def _truncated(content, rng):
    return content[: int(rng.integers(0, len(content) + 1))]


def _flipped(content, rng):
    changed = bytearray(content)
    for place in rng.integers(0, max(1, len(content)), int(rng.integers(1, 17))):
        changed[place : place + 1] = bytes(
            b ^ (1 << int(rng.integers(8))) for b in changed[place : place + 1]
        )
    return bytes(changed)


def _overwritten(content, rng):
    start, stop = _span(rng, len(content))
    filler = [bytes(stop - start), b"\xff" * (stop - start), rng.bytes(stop - start)]
    return content[:start] + filler[int(rng.integers(3))] + content[stop:]


def _swapped(content, rng):
    (a, b), (c, d) = sorted([_span(rng, len(content)), _span(rng, len(content))])
    if b > c:
        return content[:a] + content[b:]
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _repeated(content, rng):
    start, stop = _span(rng, len(content))
    times = int(rng.integers(2, 50))
    return content[:start] + content[start:stop] * times + content[stop:]


def _renumbered(content, rng):
    """Replace a number in the text, using the blanks before it if the new one is longer."""
    matches = list(re.finditer(rb" *\d+", content))
    if not matches:
        return content
    match = matches[int(rng.integers(len(matches)))]
    number = WRONG_NUMBERS[int(rng.integers(len(WRONG_NUMBERS)))]
    return content[: match.start()] + number.rjust(len(match[0])) + content[match.end() :]


def _miscounted(content, rng):
    """Overwrite bytes that may be a binary count."""
    kinds = [">I", "<I", ">Q", "<Q", "<H", ">H"]
    kind = kinds[int(rng.integers(len(kinds)))]
    bits = 8 * struct.calcsize(kind)
    value = [2**bits - 1, 2 ** (bits - 1) - 1, 2 ** (bits - 2), 0][int(rng.integers(4))]
    start, _ = _span(rng, len(content))
    return content[:start] + struct.pack(kind, value) + content[start + bits // 8 :]


def _misspelled(content, rng):
    start, _ = _span(rng, len(content))
    wrong = [
        b"\xc3\x28",
        b"\xff\xfe",
        b"\x00",
        "\u202e\u0000".encode(),
        b"\xed\xa0\x80",
        b'"',
        b"<",
        b"\r",
    ]
    return content[:start] + wrong[int(rng.integers(len(wrong)))] + content[start:]


def _nested(content, rng):
    start, _ = _span(rng, len(content))
    brackets = [b"[", b'{"a":', b"<a>", b"("][int(rng.integers(4))]
    return content[:start] + brackets * int(rng.integers(10, 100_000)) + content[start:]


ALTERATIONS = (
    _truncated, _flipped, _overwritten, _swapped, _repeated,
    _renumbered, _renumbered, _renumbered, _miscounted, _misspelled, _nested,
)  # fmt: skip


def alter(content, rng):
    """Return the content of a file with one to three alterations."""
    for _ in range(int(rng.integers(1, 4))):
        content = ALTERATIONS[int(rng.integers(len(ALTERATIONS)))](content, rng)
    return content


def _alter_file(path, rng):
    """Alter a file in place; in half of the cases, make compression and checksums valid again."""
    content = path.read_bytes()
    inside = rng.random() < 0.5
    if path.suffix == ".safetensors" and inside:
        _change_and_sign(path, rng)
        return
    if path.suffix == ".gz" and inside:
        content = gzip.compress(alter(gzip.decompress(content), rng), 1, mtime=0)
    elif path.suffix == ".png" and inside:
        content = _with_check_sums(alter(content, rng))
    else:
        content = alter(content, rng)
    path.write_bytes(content)


def _with_check_sums(png):
    """Correct the checksums of a PNG's chunks, so that a reader does not stop at them."""
    parts, place = [png[:8]], 8
    while place + 8 <= len(png):
        length = min(struct.unpack(">I", png[place : place + 4])[0], len(png) - place - 8)
        chunk = png[place + 4 : place + 8 + length]
        parts.append(struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk)))
        place += 12 + length
    return b"".join(parts)


# ---- encoders with a false description and a valid checksum

WRONG_VALUES = (
    None, True, -1, 0, 1, 2**40, 1e308, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "hf-hub:timm/resnet18", [], [1], [3, 10**7, 10**7], [10**9, 8, 8], {}, {"a": 1},
    [[]] * 5, "\u0000",
)  # fmt: skip


DTYPES = {
    "float32": "F32", "float64": "F64", "bfloat16": "BF16", "complex64": "C64", "int64": "I64",
}  # fmt: skip


def sign(path, tensors, document):
    """Write an encoder with any description and a valid checksum.

    The bytes are written here, because a library may refuse to write such a file.
    """
    import torch  # noqa: PLC0415 - catalogues need no torch

    from skastro.networks.weights import _checksum  # noqa: PLC0415

    text = document if isinstance(document, str) else json.dumps(document)
    header = {"__metadata__": {"skastro": text, "sha256": _checksum(text, tensors)}}
    content = b""
    for name, tensor in tensors.items():
        part = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": DTYPES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [len(content), len(content) + len(part)],
        }
        content += part
    head = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(head)) + head + content)


def unpack(path):
    """Return the tensors and the description of an encoder file."""
    from safetensors import safe_open  # noqa: PLC0415 - catalogues need no torch

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["skastro"])


def _change_and_sign(path, rng):
    tensors, document = unpack(path)
    if rng.random() < 0.3:
        _falsify_tensors(tensors, rng)
    if rng.random() < 0.1:
        document = alter(json.dumps(document).encode(), rng).decode(errors="replace")
    else:
        _falsify(document, rng)
    sign(path, tensors, document)


def _falsify(node, rng):
    """Replace or remove a value somewhere in a description."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = keys[int(rng.integers(len(keys)))]
    if isinstance(node[key], (dict, list)) and rng.random() < 0.6:
        _falsify(node[key], rng)
    elif rng.random() < 0.2:
        del node[key]
    else:
        node[key] = WRONG_VALUES[int(rng.integers(len(WRONG_VALUES)))]


def _falsify_tensors(tensors, rng):
    import torch  # noqa: PLC0415 - catalogues need no torch

    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    tensor = tensors.pop(name)
    changes = [
        lambda: torch.full_like(tensor, -1),
        lambda: tensor.float() * float("nan"),
        lambda: tensor.to(torch.bfloat16),
        lambda: tensor.to(torch.complex64),
        tensor[None].contiguous,
        lambda: torch.zeros(0, 10),
        lambda: torch.zeros(()),
        lambda: tensor.double() + 1e300,
        lambda: None,
    ]
    change = changes[int(rng.integers(len(changes)))]()
    if change is not None:
        tensors[name] = change


# ---- crafted files


def _fits(cards, data=b""):
    text = "".join(card.ljust(80) for card in [*cards, "END"])
    text = text.ljust(-(-len(text) // 2880) * 2880)
    return text.encode() + data.ljust(-(-len(data) // 2880) * 2880, b"\0")


def _card(key, value):
    return f"{key:8}= {value:>20}"


def _fits_image(*sides):
    axes = [_card(f"NAXIS{i + 1}", side) for i, side in enumerate(sides)]
    first = [_card("SIMPLE", "T"), _card("BITPIX", -32), _card("NAXIS", len(sides))]
    return _fits([*first, *axes])


def _fits_extension(width, height, n_parameters):
    cards = [
        "XTENSION= 'IMAGE   '", _card("BITPIX", -32), _card("NAXIS", 2), _card("NAXIS1", width),
        _card("NAXIS2", height), _card("PCOUNT", n_parameters), _card("GCOUNT", 1),
    ]  # fmt: skip
    return _fits(cards, bytes(4 * width * height))


def _fits_table(width, rows):
    cards = [
        "XTENSION= 'BINTABLE'", _card("BITPIX", 8), _card("NAXIS", 2), _card("NAXIS1", width),
        _card("NAXIS2", rows), _card("PCOUNT", 0), _card("GCOUNT", 1), _card("TFIELDS", 1),
        "TTYPE1  = 'id      '", f"TFORM1  = '{width}A'",
    ]  # fmt: skip
    return _fits_image() + _fits(cards)


def _npy(shape, data=b"", descr="<f4"):
    header = (
        repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _png(width, height, depth=8, kind=2):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    size = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(bytes(2**20))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _zarr(folder, **changes):
    """Write the description of a store that has no chunks."""
    folder.mkdir(exist_ok=True)
    description = {
        "zarr_format": 2, "shape": [3, 2, 8, 8], "chunks": [1, 2, 8, 8], "dtype": "<f4",
        "compressor": None, "fill_value": 0.0, "order": "C", "filters": None,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(description | changes))
    return folder


def crafted_catalogs(folder):
    """Write catalogues that announce far too much data, or are nested far too deep."""
    folder.mkdir(exist_ok=True)
    contents = {
        "rows.fits": _fits_table(8, 10**12),
        "width.fits": _fits_table(10**12, 1),
        "negative.fits": _fits_table(-8, -5),
        "bomb.fits.gz": gzip.compress(_fits_table(8, 10**8) + bytes(2**24), 1),
        "image.fits": _fits_image(10**6, 10**6),
        "deep.xml": b"<VOTABLE>" + b"<a>" * 10**5,
        "laughs.xml": b'<!DOCTYPE V [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + i, (b"&%c;" % (97 + i)) * 10) for i in range(12))
        + b"]><VOTABLE><DESCRIPTION>&m;</DESCRIPTION></VOTABLE>",
        "outside.xml": b'<!DOCTYPE V [<!ENTITY x SYSTEM "file:///etc/passwd">]><VOTABLE>&x;</VOTABLE>',
        "code.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n"
        b"# - !!python/object/apply:os.system ['touch executed']\nid\n1\n",
        "code2.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n"
        b"# meta: !!python/object/apply:os.system ['touch executed']\nid\n1\n",
        "deep.ecsv": b"# %ECSV 1.0\n# ---\n# datatype: " + b"[" * 10**4 + b"\nid\n1\n",
        "aliases.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n"
        b"# meta:\n"
        b"#   a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"#   a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9))
            for i in range(1, 12)
        )
        + b"id\n1\n",
        "empty.csv": b"",
        "nul.csv": bytes(4096),
        "quote.csv": b'id,a\n1,"' + b"x" * 2**20,
        "columns.csv": b"," * 10**4 + b"\n" + b"," * 10**4 + b"\n",
        "wide.csv": b",".join(b"c%d" % i for i in range(2000)) + b"\n" + b"1," * 1999 + b"2\n",
        "dates.csv": b"id,a\n1,1e999999999999\n2,-1e999999999999\n",
        "latin.csv": b"id,name\n1,M\xe9lusine\n",
        "pickle.parquet": b"PAR1\x80\x04cos\nsystem\n(S'touch executed'\ntR.PAR1",
    }
    return [_put(folder / name, content) for name, content in contents.items()]


def crafted_stamps(folder):
    """Write stamps that announce far too much data, or contain code."""
    folder.mkdir(exist_ok=True)
    pickled = b"cos\nsystem\n(S'touch executed'\ntR."
    contents = {
        "stack/stamps.npy": _npy((10**12, 3, 8, 8)),
        "overflow.npy": _npy((2**62, 2**62, 8, 8)),
        "minus.npy": _npy((-1, 3, 8, 8), bytes(768)),
        "minus2.npy": _npy((-3, -1, 8, 8), bytes(768)),
        "float.npy": _npy((3.0, 1, 8, 8), bytes(768)),
        "object.npy": _npy((1, 1, 1, 1), pickled, "|O"),
        "deep.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"(" * 9000,
        "header.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        "image-object.npy": _npy((1,), pickled, "|O"),
        "image-large.npy": _npy((10**6, 10**6)),
        "image-minus.npy": _npy((-1, 8), bytes(256)),
        "large.fits": _fits_image(10**6, 10**6),
        "large3.fits": _fits_image(10**6, 10**6, 10**6),
        "minus.fits": _fits_image(-8, 8),
        "back.fits.gz": gzip.compress(_fits_image() + _fits_extension(8, 8, -5000), mtime=0),
        "axes.fits": _fits_image(*[1] * 99),
        "bomb.fits.gz": gzip.compress(_fits_image(10**5, 10**5) + bytes(2**24), 1),
        "tiles.fits.fz": _compressed_tiles(),
        "bomb.png": _png(60_000, 60_000),
        "wide.png": _png(2**31 - 1, 1),
        "none.png": _png(0, 0),
        "deep.png": _png(9000, 9000, 16, 6),
        "pickle.h5": pickled,
    }  # fmt: skip
    paths = [_put(folder / name, content) for name, content in contents.items()]
    stores = {
        "rows": {"shape": [10**12, 2, 8, 8]},
        "more": {"shape": [10**30, 2, 8, 8]},
        "sides": {"shape": [2, 2, 10**6, 10**6], "chunks": [1, 1, 10**6, 10**6]},
        "chunks": {"chunks": [10**12, 2, 8, 8]},
        "zero": {"chunks": [0, 2, 8, 8]},
        "minus": {"shape": [-3, 2, 8, 8]},
        "codec": {"compressor": {"id": "pickle"}},
        "object": {"dtype": "|O", "filters": [{"id": "pickle"}]},
    }
    return paths + [_zarr(folder / f"{name}.zarr", **changes) for name, changes in stores.items()]


def _compressed_tiles():
    image = fits.CompImageHDU(np.zeros((8, 8), "f4"))
    image.header["NAXIS1"] = 8
    hdus = fits.HDUList([fits.PrimaryHDU(), image])
    from io import BytesIO  # noqa: PLC0415 - of this file alone

    stream = BytesIO()
    hdus.writeto(stream)
    content = stream.getvalue()
    for key in (b"ZNAXIS1 ", b"ZNAXIS2 ", b"ZTILE1  ", b"ZTILE2  "):
        content = re.sub(key + rb"= +\d+", (key + b"= %20d" % 10**6), content)
    return content


def _put(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


# ---- reading


def read_a_catalog(path):
    """Read a catalogue."""
    from skastro import read_catalog  # noqa: PLC0415 - the parent process does not need it

    assert len(read_catalog(path)), "no row"


def read_some_stamps(path):
    """Open stamps and read some of them."""
    from skastro import open_stamps  # noqa: PLC0415

    stamps = open_stamps([path] if path.name.startswith("image") else path)
    pixels = np.asarray(stamps[: 2 if np.prod(stamps.shape[1:]) < 1e6 else 1])
    assert pixels.ndim == 4, "no stamps"
    assert pixels.shape[1:] == stamps.shape[1:], "another shape than announced"


def read_an_encoder(path):
    """Load an encoder and embed with it."""
    from skastro import PropertyPretrainedEncoder  # noqa: PLC0415

    encoder = PropertyPretrainedEncoder.load(path, backbone=small_module())
    encoder.set_params(device="cpu", precision="float32", batch_size=4)
    if np.prod(encoder.image_shape_) < 10**6:
        stamps = np.ones((2, *encoder.image_shape_), "f4")
        assert np.isfinite(encoder.transform(stamps)).all(), "not finite"
        encoder.predict(stamps)


READERS = {
    "catalogs": read_a_catalog,
    "stamps": read_some_stamps,
    "encoders": read_an_encoder,
}


def judge(read, path):
    """Read a file and return what went wrong, or None; a read that hangs ends the process."""
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        if "\n" in text or not text.endswith("."):
            return f"no sentence: {text!r}"
        if path.name not in text:
            return f"names no file: {text!r}"
    except BaseException as error:  # noqa: BLE001 - any other error is a failure
        return f"{type(error).__name__}: {error}"[:500]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


@cache
def seeds(kind, folder):
    """Write the files to alter and return their paths; a store counts as one file."""
    place = Path(folder, f"seeds-{kind}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    WRITERS[kind](place)
    inner = place / "files"
    paths = sorted(place.iterdir()) + (sorted(inner.iterdir()) if inner.is_dir() else [])
    return [path for path in paths if path.name != "files"]


def altered(kind, number, folder):
    """Write altered file `number`, which is always the same, and return its path."""
    rng = np.random.default_rng([2024, number])
    seed = seeds(kind, folder)[number % len(seeds(kind, folder))]
    place = Path(folder, f"altered-{kind}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = place / seed.name
    if seed.is_dir():
        shutil.copytree(seed, path)
        inside = sorted(part for part in path.rglob("*") if part.is_file())
        _alter_file(inside[int(rng.integers(len(inside)))], rng)
    else:
        shutil.copy(seed, path)
        _alter_file(path, rng)
    return path


def limit_memory(more=MAX_MEMORY):
    """Limit the address space to its present size and `more` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)


def prepare(kind, folder):
    """Read the unaltered files once, so that all modules are imported before memory is limited."""
    warnings.simplefilter("ignore")
    for name in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(name, signal.SIG_DFL)
    for path in seeds(kind, folder):
        READERS[kind](path)
    limit_memory()
    if kind == "encoders":
        import torch  # noqa: PLC0415 - catalogues need no torch

        torch.set_num_threads(1)


CRAFTED = {"catalogs": crafted_catalogs, "stamps": crafted_stamps}


def main(kind, first, count, folder):
    """Read the files from number `first` on; print each failure as a line of JSON."""
    prepare(kind, folder)
    folder = Path(folder)
    os.chdir(folder)  # code from a file would write its mark here
    crafted = [] if count else CRAFTED[kind](folder / "crafted")
    for number in range(first, count or len(crafted)):
        (folder / "current").write_text(str(number))
        path = altered(kind, number, folder) if count else crafted[number]
        if fault := judge(READERS[kind], path):
            note = {"number": number, "file": path.name, "fault": fault}
            sys.stdout.write(json.dumps(note) + "\n")
            sys.stdout.flush()
    if (folder / "executed").exists():
        sys.stdout.write(json.dumps({"fault": "code was executed"}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
