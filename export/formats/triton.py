"""A bundle becomes models in a repository of NVIDIA's Triton Inference Server, one for each graph and each engine.

    DIR/horse2zebra-fp32/config.pbtxt            the ONNX Runtime backend, on a GPU where the server has one
    DIR/horse2zebra-fp32/1/model.onnx
    DIR/horse2zebra-fp16-tensorrt/config.pbtxt   the TensorRT backend, on the GPU and the TensorRT of the engine
    DIR/horse2zebra-fp16-tensorrt/1/model.plan

    image, translated    uint8 (N, H, W, 3) RGB; H and W are multiples of the manifest's, in `parameters` as "multiple"

A model that is there already gets the next version, which is what Triton serves and what a person can take away again.
Its config.pbtxt is kept, because people tune it. Other models are left alone.

Triton joins requests to a batch only when their pictures have the same H and W, so clients should send one size. A
batch changes no picture: InstanceNorm looks at each alone.

Sources: docs/user_guide/model_repository.md, model_configuration.md and batcher.md of triton-inference-server/server;
protobuf/model_config.proto of triton-inference-server/common. Needs no torch.
"""

import contextlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.backends.onnxruntime import open_session
from cyclegan_edge.bundle import Artifact, Bundle, read_bundle
from cyclegan_edge.commit import atomic_folder
from cyclegan_edge.contract import IMAGE, TRANSLATED
from cyclegan_edge.errors import ExportError
from cyclegan_edge.files import atomic_file, sha256

CONFIG = "config.pbtxt"

_MAX_BATCH = 8  # of a graph, which itself takes any: a GPU is full long before
_QUEUE_DELAY = 1000  # us that a picture may wait for others; it takes tens of thousands to translate
_FILES = {"onnxruntime_onnx": "model.onnx", "tensorrt_plan": "model.plan"}  # Triton's names
_DYNAMIC = (-1, -1, -1, 3)  # N, H, W, C


@dataclass(frozen=True, kw_only=True, slots=True)
class TritonModel:
    """What Triton has to know about one model; `pbtxt` says it in Triton's words."""

    name: str
    platform: str  # "onnxruntime_onnx", "tensorrt_plan"
    shape: tuple[int, int, int, int]  # of both tensors, N first; -1: any
    max_batch: int
    best_batch: int | None  # what an engine is fastest at
    parameters: dict[str, str]  # for clients, in the server's answer about the model
    note: tuple[str, ...]  # comment lines

    def pbtxt(self) -> str:
        """The text of its config.pbtxt: protobuf's text format."""
        batched = self.shape[0] == -1
        dims = ", ".join(map(str, self.shape[1:] if batched else self.shape))
        lines = [
            *(f"# {' '.join(line.split())}" for line in self.note),  # one line each, whatever the manifest holds
            f'name: "{self.name}"',
            f'platform: "{self.platform}"',
            f"max_batch_size: {self.max_batch if batched else 0}",
            f'input [ {{ name: "{IMAGE}" data_type: TYPE_UINT8 dims: [ {dims} ] }} ]',
            f'output [ {{ name: "{TRANSLATED}" data_type: TYPE_UINT8 dims: [ {dims} ] }} ]',
        ]
        if batched and self.max_batch > 1:
            preferred = f" preferred_batch_size: [ {self.best_batch} ]" if self.best_batch else ""
            lines.append(f"dynamic_batching {{{preferred} max_queue_delay_microseconds: {_QUEUE_DELAY} }}")
        kind = "KIND_GPU" if self.platform == "tensorrt_plan" else "KIND_AUTO"  # auto: the CPU where there is no GPU
        lines += [
            f"instance_group [ {{ count: 1 kind: {kind} }} ]",
            "version_policy { latest { num_versions: 1 } }",
            *(
                f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
                for key, value in self.parameters.items()
            ),
        ]
        return "\n".join(lines) + "\n"


def add_triton(folder: Path, repository: Path, *, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Write every graph and engine of the bundle `folder` into `repository`, and say what was done; the version folders
    that serve them now.

    Each version appears whole or not at all. Raises BundleError for a damaged bundle, ExportError when there is nothing
    that Triton can serve or the repository cannot be written.
    """
    bundle = read_bundle(folder)
    models = [(artifact, model) for artifact in bundle.manifest.artifacts if (model := _model(bundle, artifact, say))]
    if not models:
        raise ExportError(f"{folder} holds no graph and no engine that Triton can serve; export the run again.")
    try:
        return [_add(repository, model, bundle.path(artifact), artifact.sha256, say) for artifact, model in models]
    except OSError as error:
        raise ExportError(
            f"{repository} cannot be written ({error.strerror}); check its rights and the free space, or name another "
            f"folder."
        ) from error


def _model(bundle: Bundle, artifact: Artifact, say: Callable[[str], None]) -> TritonModel | None:
    """How Triton would serve `artifact`; None where it cannot, which is said when it might be a surprise."""
    manifest = bundle.manifest
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{manifest.name}-{Path(artifact.file).stem.removeprefix('generator-')}")
    sides = f"H and W are multiples of {manifest.multiple}; requests share a batch only when both are equal."
    parameters = {"multiple": str(manifest.multiple), "size": str(manifest.size)}
    match artifact.format:
        case "onnx":
            shape = _graph_shape(bundle.path(artifact))
            if shape is None:
                say(f"{artifact.file} was left out: it does not take uint8 (N, H, W, 3) pictures.")
                return None
            return TritonModel(
                name=name,
                platform="onnxruntime_onnx",
                shape=shape,
                max_batch=_MAX_BATCH,
                best_batch=None,
                parameters=parameters,
                note=(sides,),
            )
        case "tensorrt":
            if len(artifact.shapes) != 3 or artifact.device is None:
                say(f"{artifact.file} was left out: the manifest does not say for which shapes and device it is.")
                return None
            smallest, best, largest = artifact.shapes
            limits = " to ".join(f"{height}x{width}" for _, height, width in (smallest, largest))
            device = artifact.device
            return TritonModel(
                name=f"{name}-tensorrt",
                platform="tensorrt_plan",
                shape=_DYNAMIC,
                max_batch=largest[0],
                best_batch=best[0] if best[0] > 1 else None,
                parameters=parameters,
                note=(sides, f"Of {limits} (HxW), on {device.gpu} with TensorRT {device.tensorrt} and no other."),
            )
    return None  # ncnn and TensorRT for RTX, for which Triton has no backend


def _graph_shape(path: Path) -> tuple[int, int, int, int] | None:
    """The shape of both tensors of an ONNX graph, -1 where it is free; None when they are not ours."""
    session = open_session(path, threads=1)
    tensors = [*session.get_inputs(), *session.get_outputs()]
    if [(it.name, it.type) for it in tensors] != [(IMAGE, "tensor(uint8)"), (TRANSLATED, "tensor(uint8)")]:
        return None
    shapes = [tuple(side if isinstance(side, int) else -1 for side in it.shape) for it in tensors]
    if len(shapes[0]) != 4 or shapes[0] != shapes[1] or shapes[0][3] != 3:
        return None
    batch, height, width, channels = shapes[0]
    return batch, height, width, channels


def _add(repository: Path, model: TritonModel, file: Path, digest: str, say: Callable[[str], None]) -> Path:
    """Copy `file` into the next version of the model, unless the newest version is that file already.

    Triton takes every folder of a repository for a model, also a hidden one, but ignores what is no number inside a
    model: so the version grows there, and is renamed last.
    """
    folder = repository / model.name
    folder.mkdir(parents=True, exist_ok=True)
    config, text, target_name = folder / CONFIG, model.pbtxt(), _FILES[model.platform]
    versions = [int(it.name) for it in folder.iterdir() if re.fullmatch(r"[1-9]\d{0,8}", it.name) and it.is_dir()]
    newest = max(versions, default=0)
    kept = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else None
    held = folder / str(newest) / target_name
    same = held.is_file() and sha256(held) == digest
    version = folder / str(newest if same else newest + 1)
    try:
        if kept is None:
            with atomic_file(config) as partial:
                partial.write_text(text, encoding="utf-8")
        if not same:
            with atomic_folder(version) as partial:
                shutil.copyfile(file, partial / target_name)
    except OSError:
        with contextlib.suppress(OSError):  # no half of a new model stays
            if kept is None and not versions:
                config.unlink(missing_ok=True)
            folder.rmdir()  # refuses when there is anything in it
        raise
    say(f"{version}: {'was there already' if same else f'{file.stat().st_size / 1e6:.1f} MB'}, {_batches(model)}.")
    if kept not in (None, text):
        say(f"{config} was kept, though a new one would differ; delete it and type this again to have that.")
    return version


def _batches(model: TritonModel) -> str:
    if model.shape[0] != -1:
        return f"always {model.shape[0]} at a time"
    return f"up to {model.max_batch} pictures of one size at a time" if model.max_batch > 1 else "one picture at a time"
