"""What NVIDIA's builder makes of each kind of graph: layers, time, size of the plan. Writes rtx_builds.md beside it.

    python benchmarks/rtx_builds.py

Needs the extras export and tensorrt-rtx, and no GPU. Weights are random: a build does not depend on them.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from machine import cpu_name, table, versions
from torch import nn

from cyclegan_edge.backends.tensorrt.build import EngineConfig, build_engine
from cyclegan_edge.backends.tensorrt.explain import parsed_layers
from cyclegan_edge.backends.tensorrt.library import AMPERE_AND_NEWER, RTX, load
from cyclegan_edge.export.formats.onnx import Graph, write_onnx
from cyclegan_edge.export.formats.tensorrt import default_shapes
from cyclegan_edge.export.weights.generators import Architecture, ResnetArchitecture, UnetArchitecture, empty_generator
from cyclegan_edge.files import write_file
from cyclegan_edge.train.networks import GeneratorConfig, new_generator

REFERENCE = ResnetArchitecture(down=(64, 128, 256), blocks=(256,) * 9, up=(128, 64))
FIXED = (1, 256, 448)  # N, H, W
HALF = Graph("fp16")
GENERATORS: dict[str, GeneratorConfig | Architecture] = {
    "64x9": GeneratorConfig(),
    "64x6": GeneratorConfig(blocks=6),
    "64x9, doubled by resizing": GeneratorConfig(upsampling="resize"),
    "32x6": GeneratorConfig(width=32, blocks=6),
    "16x4": GeneratorConfig(width=16, blocks=4),
    "compact 64x8": GeneratorConfig(kind="compact", blocks=8),
    "U-Net of 256 px": GeneratorConfig(kind="unet_256"),
    "64x9, affine norms": replace(REFERENCE, norm="affine"),
    "64x9, batch norms": replace(REFERENCE, norm="batch"),
    "64x9, blurred (CUT)": replace(REFERENCE, blurred_down=True, upsampling="blurred"),
    "64x9, zero padding": replace(REFERENCE, padding="zero"),
    "separable (GAN Compression)": ResnetArchitecture(down=(24, 48, 96), blocks=(88,) * 9, up=(48, 24), separable=True),
    "U-Net, batch norms": UnetArchitecture(channels=(64, 128, 256, 512, 512, 512, 512), norm="batch"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    graph: Graph = HALF
    gpus: tuple[str, ...] = ()


ROWS = [
    Row("64x9", Graph("fp32")),
    Row("64x9"),
    Row("64x9", Graph("fp16", "bgr")),
    Row("64x9", Graph("fp16", "float")),
    Row("64x9", Graph("fp16", fixed=FIXED)),
    Row("64x9", gpus=("8.6", "8.9", "12.0")),
    Row("64x9", gpus=("7.5",)),
    *(Row(name) for name in GENERATORS if name != "64x9"),
]


def made(name: str) -> tuple[nn.Module, int]:
    """A generator with random weights, and what its sides are multiples of."""
    wanted = GENERATORS[name]
    if isinstance(wanted, GeneratorConfig):
        return new_generator(wanted).eval(), wanted.multiple
    generator = empty_generator(wanted).to_empty(device="cpu").eval()
    for values in generator.parameters():
        nn.init.normal_(values, std=0.02)
    for values in generator.buffers():
        nn.init.ones_(values)
    return generator, wanted.multiple


def measured(row: Row, generator: nn.Module, multiple: int, path: Path) -> list[str]:
    """The cells of its line."""
    write_onnx(generator, path, row.graph, multiple=multiple)
    shapes = (FIXED, FIXED, FIXED) if row.graph.fixed else default_shapes(256, multiple)
    config = EngineConfig(shapes=shapes, precision=row.graph.precision, interface=row.graph.interface, gpus=row.gpus)
    wall, cpu = time.perf_counter(), time.process_time()
    plan = build_engine(path, config, edition=RTX).plan
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    kind = " ".join(
        [row.graph.precision, *(["-" + row.graph.interface] if row.graph.interface != "rgb" else []),
         *([f"{FIXED[2]}x{FIXED[1]}"] if row.graph.fixed else [])]
    )  # fmt: skip
    weights = sum(it.numel() for it in generator.parameters()) / 1e6
    return [
        row.name, f"{weights:.2f}", kind, ", ".join(row.gpus or AMPERE_AND_NEWER), str(len(parsed_layers(path, RTX))),
        f"{wall:.1f}", f"{cpu:.1f}", f"{len(plan) / 1e6:.1f}",
    ]  # fmt: skip


def main() -> None:
    heads = [
        "generator", "million weights", "graph", "GPUs", "layers read", "seconds", "processor seconds", "plan MB",
    ]  # fmt: skip
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        name = generator = None
        for row in ROWS:
            if row.name != name:
                name, (generator, multiple) = row.name, made(row.name)
            lines.append(measured(row, generator, multiple, Path(folder) / "generator.onnx"))
            text = f"""# TensorRT for RTX builds every graph

Written by `python benchmarks/rtx_builds.py`; run it again instead of editing. TensorRT for RTX
{load(RTX).__version__}, {versions("torch", "onnx")}, {cpu_name()}, no GPU; engines for 128 to 512 px, best at 256.
Seconds are those of a machine that may do other things too, processor seconds the builder's own. What the engines give
and how fast has not been measured: they have run nowhere yet.

{table(heads, lines)}
"""
            write_file(Path(__file__).with_suffix(".md"), text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
