"""Everything that decides a distillation; stored in every checkpoint of one."""

from dataclasses import dataclass, field
from typing import Literal

from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import to_mapping
from cyclegan_edge.train.config import MAX_SIZE, OptimiserConfig, Origin, check_batch_and_seed
from cyclegan_edge.train.networks import GeneratorConfig
from cyclegan_edge.train.schedule import ScheduleConfig

FIXED = ("teacher", "direction", "size", "seed", "generator")  # cannot change when a run goes on


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillObjective:
    """Weights of what the student minimises, see step.py; 0 leaves a term out."""

    pixels: float = 4.0  # L1 of the pictures, and of both at a quarter of the size
    colours: float = 60.0  # squared difference at a sixteenth of the size: no patch of another colour
    edges: float = 4.0  # L1 of their differences between neighbouring pixels
    contrast: float = 40.0  # local contrast beyond one and a half times the teacher's: no stripes beside the horse
    features: float = 1.0  # L1 in a frozen ImageNet network
    gram: float = 1.0  # L1 of the Gram matrices there: texture, wherever it lies
    adversarial: float = 3.0  # heads on those features, which tell the student's pictures from others
    spikes: float = 2.0  # energy that gathers at single places inside the student, which become droplets
    real: float = 1.0  # share of the steps in which the others are real ones of the domain, not the teacher's; 0..1

    def __post_init__(self) -> None:
        for name in ("pixels", "colours", "edges", "contrast", "features", "gram", "adversarial", "spikes"):
            if not getattr(self, name) >= 0:  # also refuses NaN
                raise ConfigError(f"objective.{name} is {getattr(self, name)}, expected 0 or more.")
        if not 0 <= self.real <= 1:
            raise ConfigError(f"objective.real is {self.real}, expected a share, 0 to 1.")
        if not (self.pixels or self.colours or self.edges or self.features or self.gram):
            raise ConfigError("objective has no term towards the teacher's pictures; set objective.pixels=4.")

    @property
    def in_features(self) -> bool:
        """Whether any term needs the ImageNet network."""
        return bool(self.features or self.gram or self.adversarial)


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillOutputConfig:
    """What a run leaves on disk, and how often, in steps."""

    log_every: int = 20  # points of the curves and the check for trouble
    sample_every: int = 500  # sample pictures
    save_every: int = 500  # checkpoints
    keep: int = 2  # the last so many checkpoints stay

    def __post_init__(self) -> None:
        for name in ("log_every", "sample_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"output.{name} is {getattr(self, name)}, expected at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """How a student is taught."""

    teacher: str  # a run, a checkpoint, or anyone's weights
    data: str  # folder with the pictures that the teacher translates
    domains: str = ""  # names of the folders of A and B in data, as in "summer,winter"
    direction: Direction = "ab"  # of the teacher, and so of the student
    size: int = 256  # px, side of the square crops
    batch: int = 2  # pictures per step
    seed: int = 0  # of the start, the order and the crops
    device: Literal["auto", "cuda", "cpu"] = "auto"  # auto: CUDA when there is one
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of convolutions. auto: bf16 where the device has it
    origin: Origin | None = None  # the student that this one starts from; None: from random weights

    generator: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(kind="compact", blocks=8))
    objective: DistillObjective = field(default_factory=DistillObjective)
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(learning_rate=6e-4, beta2=0.99, ema=0.999)
    )
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(constant_epochs=30, decay_epochs=30))
    output: DistillOutputConfig = field(default_factory=DistillOutputConfig)

    def __post_init__(self) -> None:
        multiple = self.generator.multiple
        if self.size % multiple or not 32 <= self.size <= MAX_SIZE:
            raise ConfigError(
                f"size is {self.size}, but the {self.generator.kind} generator needs a multiple of {multiple} from 32 "
                f"to {MAX_SIZE}; try {min(MAX_SIZE, max(32, multiple, self.size // multiple * multiple))}."
            )
        check_batch_and_seed(self.batch, self.seed)
        if self.generator.dropout:
            raise ConfigError("generator.dropout is true, but a student has one picture to match; leave it false.")
        if self.schedule.policy == "plateau":
            raise ConfigError("schedule.policy is 'plateau', which follows the cycle loss of a CycleGAN; use linear.")


def default_settings() -> dict[str, object]:
    """Every setting that has a default, to build on: those of nested records are not the records' own."""
    settings = to_mapping(DistillConfig(teacher="", data=""))
    del settings["teacher"], settings["data"]
    return settings
