"""A generator becomes native code for the machine it is compiled on, through torch.export and AOTInductor.

    image       uint8 (1, H, W, 3) RGB      H and W dynamic, multiples of the manifest's up to 4096
    translated  uint8 (1, H, W, 3) RGB      the same shape

CUDA gets float16 and channels_last, the CPU float32 or bfloat16. The dynamic shape costs 1 % on the CPU, and one file
then fits every camera and every fit. Compiling needs a C++ compiler and takes a minute.
"""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from cyclegan_edge.backends.pt2 import MAX_SIDE, Pt2Backend, quiet, this_machine, trust
from cyclegan_edge.bundle import MULTIPLE, Artifact, Bundle, Precision
from cyclegan_edge.errors import ExportError, first_line
from cyclegan_edge.export.proof import proven
from cyclegan_edge.export.to_onnx import picture_generator
from cyclegan_edge.export.verify import Judge, Pair, Run, refuse
from cyclegan_edge.files import atomic_file, sha256
from cyclegan_edge.geometry import MIN_SIDE

_TRACED = 256  # px, height while tracing; at least twice the multiple, or it would become a constant


def precisions(*, bf16: bool) -> tuple[Precision, ...]:
    """What is compiled here: float16 for a GPU, else float32 and, when asked for, bfloat16 for the CPU."""
    if torch.cuda.is_available():
        return ("fp16",)
    return ("fp32", "bf16") if bf16 else ("fp32",)


def with_pt2(
    bundle: Bundle, generator: nn.Module, precision: Precision, pairs: Sequence[Pair], judge: Judge = refuse
) -> Bundle:
    """The bundle with `generator` compiled for this machine, once that is proven on `pairs`.

    `judge` hears when torch cannot compile it and of a result that is out of bounds; nothing is left then.
    """
    device: Literal["cpu", "cuda"] = "cuda" if precision == "fp16" else "cpu"
    machine, file = this_machine(device), f"generator-{precision}.pt2"

    def make(stage: Bundle) -> tuple[Artifact, Run]:
        path = stage.folder / file
        write_pt2(generator, path, precision=precision, device=device, multiple=bundle.manifest.multiple)
        artifact = Artifact(file=file, format="pt2", precision=precision, sha256=sha256(path), compiled_for=machine)
        trust(artifact)
        return artifact, Pt2Backend(stage.with_artifact(artifact), precision=precision).run

    return proven(bundle, file, make, pairs, judge)


def write_pt2(
    generator: nn.Module,
    path: Path,
    *,
    precision: Precision = "fp32",
    device: Literal["cpu", "cuda"] = "cpu",
    multiple: int = MULTIPLE,
) -> None:
    """Compile `generator` and write `path` atomically; the original is left as it is. Raises ExportError.

    multiple   px, what H and W are multiples of
    """
    module: nn.Module = picture_generator(generator, precision)
    if device == "cuda":
        module = copy.deepcopy(module).to(device).to(memory_format=torch.channels_last)
    height = max(_TRACED // multiple, 2) * multiple
    example = torch.zeros(1, height, height + max(64, multiple), 3, dtype=torch.uint8, device=device)
    steps = {"min": max(1, MIN_SIDE // multiple), "max": MAX_SIDE // multiple}
    # torch assumes that an unknown number of steps is not 1. For a U-Net at its own size it is 1, and the code is right
    # there all the same: that is the size at which the gate compares it.
    sides = {1: multiple * torch.export.Dim("rows", **steps), 2: multiple * torch.export.Dim("columns", **steps)}
    try:
        with atomic_file(path) as partial, warnings.catch_warnings(), torch.no_grad(), quiet():
            warnings.simplefilter("ignore")  # deprecations inside torch, which its user cannot act on
            program = torch.export.export(module, (example,), dynamic_shapes=(sides,))
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(partial),
                inductor_configs={"cpp.dynamic_threads": True},  # else the number of this moment is compiled in
            )
    except Exception as error:  # torch and the compiler raise many kinds; each means the same here
        raise ExportError(
            f"torch {torch.__version__} could not compile the generator ({first_line(error)}); is g++ installed?"
        ) from error
