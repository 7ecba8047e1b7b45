"""What a run takes from a trained model when it starts: weights, and the settings that follow from them.

Of a training of ours all four networks, the generators as averaged where it averaged them; of a distillation its
student; of anyone's file the generator in it, which `export/weights/trainable.py` opens. Optimisers, replay buffers,
counters and schedule are those of a new run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.files import sha256
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.checkpoint_format import Content, check_content, check_networks, config_of, is_checkpoint
from cyclegan_edge.train.config import Origin, TrainConfig
from cyclegan_edge.train.distill.state import DistillContent, check_distillation, is_distillation, load_student
from cyclegan_edge.train.networks import DiscriminatorConfig, GeneratorConfig
from cyclegan_edge.train.state import Weights
from cyclegan_edge.train.torch_file import check_finite, is_safetensors, read_start, read_torch_file

Colour = Literal["rgb", "grey"]

_COLOURS: dict[int, Colour] = {1: "grey", 3: "rgb"}  # by the channels of a picture


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart:
    """The networks that do not start fresh, of shapes that the settings of the run have to have."""

    origin: Origin
    networks: Mapping[str, Weights]  # "generator_ab", "discriminator_b" and so on -> float32, on the CPU
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig | None  # None: both start fresh, of any shape
    colours: tuple[Colour, Colour]  # of A and B
    size: int  # px, side of the crops it was trained on
    note: str  # what is taken, for people: "all four networks of ..."

    @property
    def settings(self) -> dict[str, object]:
        """What a run starts with where its user says nothing else."""
        shapes = {name: to_mapping(shape) for name, shape in self._shapes.items()}
        return {**shapes, **self._colours, "size": self.size}

    def check(self, config: TrainConfig) -> None:
        """Raise ConfigError unless the networks of `config` can take these weights."""
        for name, shape in self._shapes.items():
            if (wanted := getattr(config, name)) != shape:
                raise ConfigError(
                    f"The settings ask for a {name} of {_describe(wanted)}, but that of {self.origin.file} is of "
                    f"{_describe(shape)}; leave these settings out, or start without --from."
                )
        for name, colour in self._colours.items():
            if (given := getattr(config.pictures, name.removeprefix("pictures."))) != colour:
                raise ConfigError(
                    f"{name} is {given!r}, but {self.origin.file} was trained with {colour!r}; leave it out, or start "
                    f"without --from."
                )

    @property
    def _shapes(self) -> dict[str, GeneratorConfig | DiscriminatorConfig]:
        return {"generator": self.generator, **({"discriminator": self.discriminator} if self.discriminator else {})}

    @property
    def _colours(self) -> dict[str, Colour]:
        return {"pictures.colour_a": self.colours[0], "pictures.colour_b": self.colours[1]}


def start_from_checkpoint(path: Path) -> WarmStart | None:
    """The networks of the checkpoint `path`; None when it is no checkpoint of ours, but may be anyone's weights.

    Raises CheckpointError when it is missing, damaged, of another version, or holds values that are not finite.
    """
    if is_safetensors(read_start(path)):
        return None
    content = read_torch_file(path)
    if is_distillation(content):
        return _start_from_student(check_distillation(content, path), path)
    return _start_from_training(check_content(content, path), path) if is_checkpoint(content) else None


def start_with_generator(
    generator: GeneratorConfig,
    weights: Weights,
    *,
    direction: Direction,
    channels: tuple[int, int],
    size: int,
    origin: Origin,
    name: str,
) -> WarmStart:
    """One generator, and everything else fresh.

    `channels` of the pictures that go into it and come out, each 1 or 3; `name` is what people are told it is.
    """
    inputs, outputs = (_COLOURS[count] for count in channels)
    turns = " to ".join(direction.upper())
    return WarmStart(
        origin=origin,
        networks={f"generator_{direction}": weights},
        generator=generator,
        discriminator=None,
        colours=(inputs, outputs) if direction == "ab" else (outputs, inputs),
        size=size,
        note=f"{name}, which is {turns}; the other generator and both discriminators start fresh",
    )


def _start_from_training(content: Content, path: Path) -> WarmStart:
    config = config_of(content, path)
    check_networks(content, config, path)
    averages = content["averages"] or {}
    networks = {**content["networks"], **averages}
    for name, weights in networks.items():
        check_finite({f"{name}.{key}": tensor for key, tensor in weights.items()}, path)
    return WarmStart(
        origin=_origin(path, content["step"]),
        networks=networks,
        generator=config.generator,
        discriminator=config.discriminator,
        colours=(config.pictures.colour_a, config.pictures.colour_b),
        size=config.size,
        note=f"all four networks of {path}{', its generators as averaged' if averages else ''}",
    )


def _start_from_student(content: DistillContent, path: Path) -> WarmStart:
    config, student = load_student(content, path)
    check_finite(student.state_dict(), path)
    inputs, outputs = content["channels"]
    return start_with_generator(
        config.generator,
        student.state_dict(),
        direction=config.direction,
        channels=(inputs, outputs),
        size=config.size,
        origin=_origin(path, content["step"]),
        name=f"the student of {path}",
    )


def _origin(path: Path, step: int) -> Origin:
    return Origin(file=str(path.resolve()), sha256=sha256(path), step=step)


def _describe(shape: GeneratorConfig | DiscriminatorConfig) -> str:
    """ "kind='resnet', width=64, ..."."""
    return ", ".join(f"{name}={value!r}" for name, value in to_mapping(shape).items())
