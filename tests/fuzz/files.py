"""Seeded attacks by files: pictures, checkpoints and bundles that are damaged or lie.

python tests/fuzz/files.py pictures|checkpoints|bundles COUNT [SEED]

A sentence or a result is good; anything else is printed with its number, and the counts at the end. A crash of the
process ends it; the number of the attempt stands on stderr then.
"""

import io
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cyclegan_edge.backends import open_backend
from cyclegan_edge.bundle import MANIFEST, read_bundle
from cyclegan_edge.errors import CycleGanEdgeError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.files import sha256
from cyclegan_edge.images import decode_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import load_checkpoint, save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.state import new_state

Attempt = Callable[[random.Random], object]
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    10**40,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 2000,
    "../x",
    "/dev/zero",
]
ODD += [[], {}, [[]], {"a": {"b": []}}, [0] * 50, "fp16", "onnx", "\x00", "generator-fp32.onnx"]
KINDS = [
    ("PNG", "RGBA"),
    ("PNG", "I;16"),
    ("PNG", "P"),
    ("JPEG", "RGB"),
    ("JPEG", "CMYK"),
    ("WEBP", "RGBA"),
    ("BMP", "RGB"),
]
KINDS += [
    ("TIFF", "RGB"),
    ("TIFF", "CMYK"),
    ("GIF", "P"),
    ("AVIF", "RGB"),
    ("JPEG2000", "RGB"),
    ("PPM", "RGB"),
    ("TGA", "RGBA"),
]
SMALL = ["size=32", "generator.width=4", "generator.blocks=1", "discriminator.width=4", "device=cpu", "data=x"]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, taken away, doubled or put in; near the beginning, where headers are, more often."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(min(len(changed), 200) if rng.random() < 0.6 else len(changed)) if changed else 0
        match rng.randrange(5):
            case 0 | 1:
                changed[at : at + 1] = bytes([rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])])
            case 2:
                del changed[at : at + rng.randrange(1, 40)]
            case 3:
                changed[at:at] = changed[at : at + rng.randrange(1, 40)]
            case 4:
                changed[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)])
    return bytes(changed)


def with_odd_leaf(content: Any, rng: random.Random) -> Any:
    """A copy in which one value, somewhere, is another, missing, or there twice."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(list(content))
        if rng.random() < 0.08:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: with_odd_leaf(content[key], rng)}
    if isinstance(content, list) and content and rng.random() < 0.8:
        at = rng.randrange(len(content))
        return [*content[:at], with_odd_leaf(content[at], rng), *content[at + 1 :]]
    if isinstance(content, torch.Tensor) and rng.random() < 0.7:
        forms = [
            content[None],
            content.double(),
            content.to(torch.int64),
            content * float("nan"),
            content.flatten()[:1],
        ]
        return rng.choice([*forms, torch.zeros(0), content.to_sparse() if content.ndim else content])
    return rng.choice(ODD)


def pictures(_: Path) -> Attempt:
    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
    bases = []
    for kind, mode in KINDS:
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
        picture = picture or Image.fromarray(noise).convert("RGB" if mode in ("P", "CMYK") else mode).convert(mode)
        ways: dict[str, dict[str, Any]] = {"JPEG": {"progressive": True}, "TIFF": {"compression": "tiff_lzw"}}
        for options in ({}, ways.get(kind, {})):
            stream = io.BytesIO()
            picture.save(stream, kind, **options)
            bases.append(stream.getvalue())
    return lambda rng: decode_image(damaged(rng.choice(bases), rng), "attack")


def checkpoint_in(place: Path) -> Path:
    config = load_settings(TrainConfig, None, SMALL)
    return save_checkpoint(place / "run", config, new_state(config, torch.device("cpu")))


def checkpoints(place: Path) -> Attempt:
    path = checkpoint_in(place)
    whole, content, cpu = path.read_bytes(), torch.load(path, weights_only=True), torch.device("cpu")

    def attempt(rng: random.Random) -> None:
        if rng.random() < 0.3:
            path.write_bytes(damaged(whole, rng))
        else:
            torch.save(with_odd_leaf(content, rng), path)
        if rng.random() < 0.5:
            load_checkpoint(path, cpu)
        else:
            open_generator(path, "ab")

    return attempt


def bundles(place: Path) -> Attempt:
    folder = export_checkpoint(checkpoint_in(place), place / "model", ExportConfig(compare=1)).folder
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    manifest, picture = json.loads(contents[folder / MANIFEST]), np.zeros((1, 32, 32, 3), np.uint8)

    def attempt(rng: random.Random) -> None:
        for path, content in contents.items():
            path.write_bytes(content)
        if rng.random() < 0.5:
            (folder / MANIFEST).write_text(json.dumps(with_odd_leaf(manifest, rng)))
        else:
            path = rng.choice(sorted(contents.keys() - {folder / MANIFEST}))
            path.write_bytes(damaged(contents[path], rng))
            text = json.dumps(manifest).replace(sha256_of(contents[path]), sha256(path))
            (folder / MANIFEST).write_text(
                text.replace(f'"bytes": {len(contents[path])}', f'"bytes": {path.stat().st_size}')
            )
        bundle = read_bundle(folder)
        open_backend(bundle, engine="onnxruntime", threads=1)[0].run(picture)
        if any(verdict.outcome == "failed" for verdict in verify_bundle(bundle, engine="onnxruntime", precision=None)):
            raise CycleGanEdgeError

    def sha256_of(content: bytes) -> str:
        (place / "x").write_bytes(content)
        return sha256(place / "x")

    return attempt


def main(kind: str, count: int, first: int) -> None:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        attempt = {"pictures": pictures, "checkpoints": checkpoints, "bundles": bundles}[kind](Path(place))
        for seed in range(first, first + count):
            sys.stderr.write(f"\r{seed} ")
            try:
                attempt(random.Random(seed))
                counts["passed"] += 1
            except CycleGanEdgeError:
                counts["refused"] += 1
            except Exception as error:
                counts["FAILED"] += 1
                sys.stdout.write(f"{seed}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]:.200}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{kind}: {count} tried, {dict(counts)}\n")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
