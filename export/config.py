"""What an export makes."""

from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.contract import Direction, GraphPrecision
from cyclegan_edge.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Which generator, in which precision, and on what it is proven."""

    direction: Direction = "ab"
    fp16: bool = False  # also the half-precision graph, and the TensorRT engine where TensorRT is installed
    ncnn: bool = False  # also for ncnn; with fp16 a second time, with weights of half the size
    bgr: bool = False  # also graphs that take and give uint8 BGR
    float_io: bool = False  # also graphs that take and give float32 (N, 3, H, W) RGB in -1..1
    fixed: tuple[int, int] | None = None  # also graphs of this one (height, width), px
    int8: bool = False  # also in 8 bits, calibrated
    calibrate: Path | None = None  # on pictures of this folder; none: the training pictures of the run
    pictures: Path | None = None  # folder to compare on; none: the test or training pictures of the run
    compare: int = 16  # how many pictures are compared, spread over the folder

    def __post_init__(self) -> None:
        if self.compare < 1:
            raise ConfigError(
                f"compare is {self.compare}, but a graph is only kept once it is proven; give at least 1 picture."
            )
        if self.calibrate and not self.int8:
            raise ConfigError("Pictures to calibrate on are for a graph in 8 bits, but none is to be made; add --int8.")

    @property
    def precisions(self) -> tuple[GraphPrecision, ...]:
        """Of the graphs, and of what is converted for ncnn."""
        return ("fp32", "fp16") if self.fp16 else ("fp32",)
