"""Exports that are killed before each change that they make to the disk, one process after the other.

    python killed_export.py FOLDER CASE     prints a line of JSON: what every kill left behind

CASE is what is killed: "new" (a bundle where none is), "again" (a bundle in place of another), "add" and "replace" (a
file of a bundle). After each kill the bundle is opened and verified, then exported again.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cyclegan_edge.bounds import pairs_of
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Source, read_bundle
from cyclegan_edge.contract import Batch, GraphPrecision
from cyclegan_edge.errors import BundleError
from cyclegan_edge.export import parity
from cyclegan_edge.export.formats import Target
from cyclegan_edge.export.parity import raise_failed
from cyclegan_edge.export.pipeline import add_to_bundle, write_bundle
from cyclegan_edge.export.verify_bundle import verify_bundle
from cyclegan_edge.files import sha256

parity.render_pictures = cache(parity.render_pictures)  # the same every time, and most of the time
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}  # audit events; opening for writing is one too


def graph(remark: str) -> bytes:
    """255 - image"""
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    model = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["white", "wide"], ["inverted"]),
            helper.make_node("Cast", ["inverted"], ["translated"], to=TensorProto.UINT8),
        ],
        "negative",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("translated", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array(255, np.float32), "white")],
        doc_string=remark,
    )
    made = helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(made.SerializeToString())


def target(precision: GraphPrecision, content: bytes) -> Target:
    file = f"generator-{precision}.onnx"

    def make(_: Bundle, folder: Path) -> Artifact:
        (folder / file).write_bytes(content)
        return Artifact(file=file, format="onnx", precision=precision, sha256=sha256(folder / file))

    return Target(file=file, precision=precision, make=make)


def export(folder: Path, precisions: tuple[GraphPrecision, ...], step: int) -> Bundle:
    def translate(images: Batch) -> Batch:
        return 255 - images

    source = Source(file="step_1.pt", sha256="0" * 64, step=step)
    manifest = Manifest(name="x", direction="ab", size=32, architecture={}, source=source, artifacts=())
    targets = [target(precision, graph(f"step {step}")) for precision in precisions]
    return write_bundle(folder, manifest, targets, pairs_of(translate, parity.render_pictures(32, 2)), raise_failed)


def add(folder: Path, remark: str) -> Bundle:
    return add_to_bundle(read_bundle(folder), [target("fp16", graph(remark))])


def nothing(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)


CASES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {  # what is there, and what is killed
    "new": (nothing, lambda folder: export(folder, ("fp32", "fp16"), 2)),
    "again": (lambda folder: export(folder, ("fp32", "fp16"), 1), lambda folder: export(folder, ("fp32",), 2)),
    "add": (lambda folder: export(folder, ("fp32",), 2), lambda folder: add(folder, "added")),
    "replace": (lambda folder: export(folder, ("fp32", "fp16"), 2), lambda folder: add(folder, "replaced")),
}


def killed_at(number: int, what: Callable[[], object]) -> bool:
    """Run `what` in a process that kills itself before its change of that number; False when it makes fewer."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), status
        return status != 0
    numbers = count(1)

    def change() -> None:
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES or (event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"):
            change()

    fsync = os.fsync

    def counted_fsync(fd: int) -> None:
        change()
        fsync(fd)

    os.fsync = counted_fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
    try:
        what()
    except BaseException as error:
        sys.stderr.write(repr(error))
        os._exit(1)
    os._exit(0)


def state_of(folder: Path, known: dict[str, Bundle | None]) -> str:
    """Which of the known bundles lies there, if all its files do and it verifies."""
    try:
        bundle = read_bundle(folder)
    except BundleError:
        return next(name for name, content in known.items() if content is None)
    verdicts = list(verify_bundle(bundle, engine="onnxruntime"))
    assert [verdict.outcome for verdict in verdicts] == ["good"] * len(bundle.manifest.artifacts), verdicts
    return next(name for name, content in known.items() if content and content.manifest == bundle.manifest)


def main(place: Path, case: str) -> None:
    before, killed = CASES[case]
    folder = place / "models" / "x"
    before(folder)
    known: dict[str, Bundle | None] = {"old": read_bundle(folder) if folder.exists() else None}
    if folder.exists():
        shutil.copytree(folder, place / "old")
    killed(folder)
    known["new"] = read_bundle(folder)
    wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
    states = []
    for number in count(1):
        shutil.rmtree(folder)
        if (place / "old").exists():
            shutil.copytree(place / "old", folder)
        if not killed_at(number, lambda: killed(folder)):
            break
        states.append(state_of(folder, known))
        killed(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted, number
        assert [path.name for path in folder.parent.iterdir()] == ["x"], number
    sys.stdout.write(json.dumps(states))


main(Path(sys.argv[1]), sys.argv[2])
