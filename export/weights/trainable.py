"""Anyone's generator as the start of a training run, where training builds generators of that architecture.

start_from_weights(path)     .pth or .safetensors
start_from_bundle(bundle)    an exported model: its float32 graph holds every weight under its own name
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import BundleError, CheckpointError, ConfigError
from cyclegan_edge.export.formats.onnx import GENERATOR, without_dead_biases
from cyclegan_edge.export.weights.generators import CompactArchitecture, ResnetArchitecture, UnetArchitecture
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.files import sha256
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.config import Origin
from cyclegan_edge.train.networks import GeneratorConfig, new_generator
from cyclegan_edge.train.runs import direction_of
from cyclegan_edge.train.torch_file import check_finite
from cyclegan_edge.train.warm_start import WarmStart, start_with_generator

_TRAINABLE = "the ResNet or U-Net of the reference with instance norm, or the compact generator"
_FOREIGN: dict[str, type] = {"resnet": ResnetArchitecture, "unet": UnetArchitecture, "compact": CompactArchitecture}
_MAX_GRAPH_BYTES = 1 << 30  # of the float32 graph of a bundle


def start_from_weights(path: Path, direction: Direction | None = None) -> WarmStart:
    """The generator in `path`, which is no checkpoint of ours, and fresh networks besides.

    `direction` is its own; None takes what its file says, or the name of the file, or "ab".

    Raises CheckpointError when `path` holds no generator that training builds too, ConfigError for a `direction` that
    is not the file's.
    """
    trained = open_generator(path, direction or direction_of(path))
    if direction not in (None, trained.direction):
        raise ConfigError(f"{path} says that its generator is {trained.direction}; leave out --direction {direction}.")
    architecture = trained.architecture
    generator = _settings_of(architecture)
    if generator is None:
        raise CheckpointError(
            f"{path} is a {trained.description}, which training does not build, expected {_TRAINABLE}; "
            f"`cyclegan-edge export` takes it, --from does not."
        )
    taken = new_generator(generator, architecture["inputs"], architecture["outputs"])
    taken.load_state_dict(trained.generator.state_dict())
    return start_with_generator(
        generator,
        taken.state_dict(),
        direction=trained.direction,
        channels=(architecture["inputs"], architecture["outputs"]),
        size=trained.size,
        origin=Origin(file=str(path.resolve()), sha256=sha256(path), step=trained.source.step),
        name=f"the generator of {path} ({trained.description})",
    )


def start_from_bundle(bundle: Bundle) -> WarmStart:
    """The generator of an exported model, bit for bit, and fresh networks besides.

    The biases that an instance norm subtracts again are not in the graph; they start at 0.

    Raises BundleError when its float32 graph is missing, damaged, or not that of its architecture, CheckpointError when
    training does not build that.
    """
    manifest = bundle.manifest
    artifact = bundle.artifact("onnx", "fp32")
    if artifact is None:
        raise BundleError(f"{bundle.folder} holds no fp32 ONNX graph to take weights from; export the model again.")
    path = bundle.path(artifact)
    try:
        generator = _settings_in(manifest.architecture)
    except ConfigError as error:
        raise BundleError(f"{bundle.folder} has no architecture of this version; export the model again.") from error
    if generator is None:
        raise CheckpointError(f"{bundle.folder} holds a generator that training does not build, expected {_TRAINABLE}.")
    found = _constants(path)
    for channels in ((3, 3), (1, 1), (1, 3), (3, 1)):
        with torch.device("meta"):
            empty = new_generator(generator, *channels)
            expected = {name: value.shape for name, value in without_dead_biases(empty).state_dict().items()}
        if all(name in found and found[name].shape == shape for name, shape in expected.items()):
            break
    else:
        raise BundleError(f"{path} does not hold the weights of the generator in the manifest; export the model again.")
    shapes = empty.state_dict()
    weights = {name: found[name] if name in expected else torch.zeros(it.shape) for name, it in shapes.items()}
    check_finite(weights, path)
    return start_with_generator(
        generator,
        weights,
        direction=manifest.direction,
        channels=channels,
        size=manifest.size,
        origin=Origin(file=str(path.resolve()), sha256=artifact.sha256, step=manifest.source.step),
        name=f"the generator of {bundle.folder}",
    )


def _settings_in(architecture: Mapping[str, Any]) -> GeneratorConfig | None:
    """The settings of a generator that a manifest describes; None for one that training does not build."""
    kind = architecture.get("generator")
    if kind is None:
        return from_mapping(GeneratorConfig, architecture)
    if not isinstance(kind, str) or kind not in _FOREIGN:
        raise ConfigError(f"generator is {kind!r:.80}, expected {', '.join(_FOREIGN)}.")
    return _settings_of(to_mapping(from_mapping(_FOREIGN[kind], architecture)))


def _constants(path: Path) -> dict[str, Tensor]:
    """The float32 constants of the generator in an ONNX file, by the names of its state dict."""
    try:
        if path.stat().st_size > _MAX_GRAPH_BYTES:
            raise ValueError("too large")
        graph = onnx.load(path, load_external_data=False).graph
        return {
            constant.name.removeprefix(GENERATOR): torch.from_numpy(numpy_helper.to_array(constant).copy())
            for constant in graph.initializer
            if constant.name.startswith(GENERATOR) and constant.data_type == onnx.TensorProto.FLOAT
        }
    except Exception as error:  # of protobuf, which has no types, or of a size that is not that of its bytes
        raise BundleError(f"{path} is not an ONNX file that holds its weights; export the model again.") from error


def _settings_of(architecture: Mapping[str, Any]) -> GeneratorConfig | None:
    """The settings that make training build a generator of `architecture`; None where there are none."""
    channels = {"inputs": architecture["inputs"], "outputs": architecture["outputs"]}
    match architecture:
        case {"generator": "resnet", "down": (width, *_), "blocks": blocks}:
            generator = GeneratorConfig(width=width, blocks=len(blocks))
            down, inner = (width, 2 * width, 4 * width), (4 * width,) * len(blocks)
            ours: object = ResnetArchitecture(**channels, down=down, blocks=inner, up=(2 * width, width))
        case {"generator": "unet", "channels": (width, *_) as levels} if len(levels) in (7, 8):
            generator = GeneratorConfig(kind="unet_256" if len(levels) == 8 else "unet_128", width=width)
            ours = UnetArchitecture(
                **channels, channels=tuple(width * min(2**level, 8) for level in range(len(levels)))
            )
        case {"generator": "compact", "width": width, "blocks": count}:
            generator = GeneratorConfig(kind="compact", width=width, blocks=count)
            ours = CompactArchitecture(**channels, width=width, blocks=count)
        case _:
            return None
    return generator if to_mapping(ours) == architecture else None
