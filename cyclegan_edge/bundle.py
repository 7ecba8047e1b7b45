"""An exported model on disk: one folder that can be copied to any device.

    models/scenes/
        manifest.json              what it is, where it came from, what was proven (this module)
        generator-fp32.onnx        image uint8 (N, H, W, 3) RGB -> translated uint8 (N, H, W, 3) RGB
        generator-fp16.onnx        the same graph with half-precision convolutions, when asked for
        generator-int8.onnx        the same graph with convolutions in 8 bits, for CPUs, when asked for
        generator-fp32-bgr.onnx    for other pipelines, when asked for: uint8 BGR,
        generator-fp32-float.onnx  input float32 (N, 3, H, W) RGB in -1..1 -> output, the same,
        generator-fp32-448x256.onnx  uint8 RGB of one constant size
        generator-fp16.engine      a TensorRT plan, built on and for one device
        generator-fp16-rtx.engine  a plan of TensorRT for RTX, for desktop GPUs of several kinds
        generator-fp32.ncnn.param  the layers and
        generator-fp32.ncnn.bin    the weights for ncnn, on any CPU
        reference-1.png            a picture of the size it was trained on, and
        reference-1-translated.png what float32 PyTorch makes of it: `cyclegan-edge verify` compares with these

Everything in the folder is data from outside: the manifest is checked field by field, every file by size and hash.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cyclegan_edge.commit import finish_commit
from cyclegan_edge.contract import MIN_SIDE, MULTIPLE, Direction, GraphPrecision, Interface, Precision
from cyclegan_edge.errors import BundleError, ConfigError
from cyclegan_edge.files import atomic_file, newest, sha256
from cyclegan_edge.schema import from_mapping

MANIFEST = "manifest.json"
MODELS = Path("models")  # where exported models are written and looked for
INCLUDED = Path(__file__).with_name("models")  # those that come with the package
SCHEMA = 3  # raised when a field changes its meaning or goes away

FormatName = Literal["onnx", "tensorrt", "tensorrt-rtx", "ncnn"]

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_DIGITS = 18  # of an integer
_MAX_SIDE = 1 << 12  # px
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """How far from float32 PyTorch an artifact may be; the values are in `cyclegan_edge.bounds`."""

    max_levels: int  # largest difference of any value, of 255
    least_psnr_db: float
    least_ssim: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How an artifact differs from float32 PyTorch on the same uint8 pictures, in levels of 0..255."""

    images: int  # how many pictures were compared
    height: int  # px, of the pictures compared
    width: int  # px
    max_levels: int  # largest difference of any value
    mean_levels: float  # mean absolute difference
    psnr_db: float  # 10 log10(255^2 / mse); 100.0 when nothing differs
    ssim: float  # structural similarity, the mean of the pictures; 1.0 when nothing differs
    share_above_1: float  # share of values more than one level off, 0..1
    bound: Bound  # what was asked of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """The machine an engine was built on, and runs on."""

    gpu: str
    compute_capability: str  # "8.7"
    tensorrt: str  # "10.3.0.30"
    platform: str  # "Linux-aarch64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """What an engine of TensorRT for RTX runs on; a GPU need not have been there when it was built."""

    compute_capabilities: tuple[str, ...]  # "8.6"; "12.0+": that and newer
    tensorrt: str  # "1.7.1.116", the one version that opens it
    platform: str  # "Linux-x86_64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of the bundle."""

    file: str  # name inside the folder
    sha256: str
    bytes: int | None = None  # its length, looked at before its hash; None: not known


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """What an engine can run: one file of the bundle, and the parts that it is read with."""

    file: str  # name inside the folder
    format: FormatName
    precision: GraphPrecision
    sha256: str
    bytes: int | None = None  # as in `Part`
    parts: tuple[Part, ...] = ()  # ncnn only: the weights
    parity: Parity | None = None  # None: an engine, whose numbers are checked on its device
    device: Device | None = None  # engines of TensorRT only
    targets: Targets | None = None  # engines of TensorRT for RTX only
    shapes: tuple[tuple[int, int, int], ...] = ()  # engines only: smallest, best and largest (N, H, W)
    interface: Interface = "rgb"  # what it takes and gives; the engines of this package run "rgb" only
    fixed: tuple[int, int, int] | None = None  # the only (N, H, W) it takes; None: any, or what `shapes` says

    @property
    def for_other_programs(self) -> bool:
        """Whether it is a graph that no engine of this package runs: of another interface, or of one size."""
        return self.format == "onnx" and (self.interface != "rgb" or self.fixed is not None)

    def files(self) -> tuple[Part, ...]:
        """Every file of it, its own first."""
        return Part(file=self.file, sha256=self.sha256, bytes=self.bytes), *self.parts


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A picture and what float32 PyTorch makes of it, both PNG of the manifest's size."""

    picture: Part
    translated: Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The checkpoint the weights came from."""

    file: str
    sha256: str
    step: int | None  # optimiser steps taken; None: the file does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything needed to judge and reproduce an exported model."""

    schema: int = SCHEMA
    name: str
    direction: Direction
    size: int  # px, side of the square crops it was trained on
    architecture: dict[str, Any]  # the generator's settings, as in its checkpoint
    source: Source
    artifacts: tuple[Artifact, ...]
    versions: dict[str, str] = field(default_factory=dict)  # of the programs that made it
    multiple: int = MULTIPLE  # px, what both sides of a batch are multiples of; a U-Net's is 2 to its number of levels
    domains: tuple[str, str] | None = None  # what A and B are, where anyone said so
    references: tuple[Reference, ...] = ()  # what every engine can be compared with, wherever the bundle lies

    def files(self) -> tuple[Part, ...]:
        """Every file that it names."""
        pictures = (part for reference in self.references for part in (reference.picture, reference.translated))
        return *(part for artifact in self.artifacts for part in artifact.files()), *pictures


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder and its checked manifest."""

    folder: Path
    manifest: Manifest

    def artifact(self, format: FormatName, precision: Precision) -> Artifact | None:  # noqa: A002
        """The artifact of that format and precision, or None. Graphs for other pipelines than ours are never it."""
        wanted = (
            artifact
            for artifact in self.manifest.artifacts
            if (artifact.format, artifact.precision) == (format, precision) and not artifact.for_other_programs
        )
        return next(wanted, None)

    def with_artifact(self, artifact: Artifact) -> "Bundle":
        """The same bundle with `artifact` in place of any of its file name; nothing is written."""
        others = tuple(other for other in self.manifest.artifacts if other.file != artifact.file)
        return Bundle(self.folder, replace(self.manifest, artifacts=(*others, artifact)))

    def path(self, artifact: Artifact) -> Path:
        """Where the artifact's file lies, once it and its parts were found to be what was exported.

        Raises BundleError when one is not.
        """
        for part in artifact.files():
            self.checked(part)
        return self.folder / artifact.file

    def checked(self, part: Part) -> Path:
        """Where one file lies, once its length and its hash were found to be right. Raises BundleError."""
        path = self.folder / part.file
        if not path.is_file():
            raise BundleError(
                f"{path} is named by the manifest but is not there; export the model again or copy the whole folder."
            )
        found, remedy = path.stat().st_size, "copy the folder again or export the model again"
        if part.bytes is not None and found != part.bytes:
            raise BundleError(
                f"{path} is not the file that was exported (it has {found} bytes, the manifest says {part.bytes}); "
                f"{remedy}."
            )
        if sha256(path) != part.sha256:
            raise BundleError(
                f"{path} is not the file that was exported (its SHA-256 differs from the manifest's); {remedy}."
            )
        return path


def included_bundle(model: str | Path) -> Path | None:
    """The folder of the model of this name that comes with the package; None where there is another of its path."""
    name = Path(model)
    folder = INCLUDED / name
    return folder if len(name.parts) == 1 and not name.exists() and (folder / MANIFEST).is_file() else None


def read_bundle(folder: str | Path) -> Bundle:
    """Read and check the manifest of `folder`, or of the model of this name that comes with the package.

    Raises BundleError with what is wrong; no other file is opened yet."""
    folder = included_bundle(folder) or Path(folder)
    try:
        finish_commit(folder)
    except OSError as error:
        raise BundleError(
            f"{folder} holds a half-finished export that cannot be completed ({error.strerror}); open it once where "
            f"it can be written."
        ) from error
    path = folder / MANIFEST
    if not path.is_file():
        source = folder if folder.is_file() or (folder / "checkpoints").is_dir() else ""
        raise BundleError(
            f"{folder} is no exported model: it has no {MANIFEST}; "
            f"{'export it first' if source else 'make one'} with `{f'cyclegan-edge export {source}'.strip()}`."
        )
    content = _read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise BundleError(f"{path} {_of_another_schema(content)}.")
    try:
        manifest = from_mapping(Manifest, content)
    except ConfigError as error:
        raise BundleError(f"{path} is not a manifest of this version: {error} Export the model again.") from error
    if wrong := next(_out_of_range(manifest), None):
        raise BundleError(f"{path} has {wrong}; export the model again.")
    return Bundle(folder, manifest)


def _read_json(path: Path) -> object:
    """What JSON allows, and no more: no NaN, no infinity, no number that a computer does not hold."""
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes, expected at most {_MAX_MANIFEST_BYTES}; it is no manifest."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); copy the folder again.") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); copy the folder again.") from error
    try:
        return json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{path} is not valid JSON ({error}); copy the folder again or export the model again."
        ) from error


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text:.20} is not a finite number")
    return float(text)


def _of_another_schema(content: object) -> str:
    """Why a manifest cannot be read by this version, and the command that makes one which can be, without its end."""
    schema, source = (content.get("schema"), content.get("source")) if isinstance(content, dict) else (content, None)
    file = source.get("file") if isinstance(source, dict) else None
    run = f"RUN`, where RUN holds its checkpoint {file}" if isinstance(file, str) and len(file) < 100 else "RUN`"
    return f"has schema {schema!r:.40}, this version reads {SCHEMA}; export it again with `cyclegan-edge export {run}"


def _out_of_range(manifest: Manifest) -> Iterator[str]:
    """What no export writes, as the value and what was expected."""
    if not MULTIPLE <= manifest.multiple <= _MAX_SIDE or manifest.multiple % MULTIPLE:
        yield f"the multiple {manifest.multiple}, expected one of {MULTIPLE} from {MULTIPLE} to {_MAX_SIDE}"
    if not MIN_SIDE <= manifest.size <= _MAX_SIDE:
        yield f"the size {manifest.size}, expected {MIN_SIDE} to {_MAX_SIDE} px"
    for artifact in manifest.artifacts:
        shapes = artifact.shapes if artifact.fixed is None else (*artifact.shapes, artifact.fixed)
        if len(artifact.shapes) not in (0, 3) or any(not 1 <= side <= _MAX_SIDE for shape in shapes for side in shape):
            yield f"the shapes {shapes!r:.80}, expected three of (N, H, W) from 1 to {_MAX_SIDE} each"
    for part in manifest.files():
        if not _FILE_NAME.fullmatch(part.file) or part.file == MANIFEST:
            yield f"the file {part.file!r:.80}, expected a plain name inside the folder"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder/manifest.json` atomically."""
    with atomic_file(folder / MANIFEST) as partial:
        partial.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def newest_bundle(models: Path = MODELS) -> Path:
    """The folder in `models` that was exported last; where there is none, one that comes with the package.

    Raises BundleError without either."""
    found = newest(models, MANIFEST) or newest(INCLUDED, MANIFEST)
    if found is None:
        raise BundleError(
            f"There is no exported model in {models}; make one with `cyclegan-edge export`, or name its folder."
        )
    return found
