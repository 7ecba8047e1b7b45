"""Anyone's generator as the start of a training run, where training builds generators of that architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import CheckpointError, ConfigError
from cyclegan_edge.export.weights.generators import CompactArchitecture, ResnetArchitecture, UnetArchitecture
from cyclegan_edge.export.weights.open import open_generator
from cyclegan_edge.files import sha256
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.config import Origin
from cyclegan_edge.train.networks import GeneratorConfig, new_generator
from cyclegan_edge.train.runs import direction_of
from cyclegan_edge.train.warm_start import WarmStart, start_with_generator


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
            f"{path} is a {trained.description}, which training does not build, expected the ResNet or U-Net of the "
            f"reference with instance norm, or the compact generator; `cyclegan-edge export` takes it, --from does not."
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
