"""Half precision keeps the picture because statistics stay in float32, whatever the weights before a norm."""

import copy
from itertools import pairwise
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from cyclegan_edge.export.formats import onnx as to_onnx
from cyclegan_edge.export.formats.onnx import Graph, write_onnx
from cyclegan_edge.export.weights.generators import ResnetArchitecture, empty_generator

Kind = Literal["fp16", "all half"]


def generator(scale: float = 1.0) -> nn.Module:
    """A small ResNet of torch's own norms, which compute in what they are given; weights before them times `scale`."""
    made = empty_generator(ResnetArchitecture(down=(8, 16, 16), blocks=(16,), up=(16, 8))).to_empty(device="cpu")
    random = torch.Generator().manual_seed(0)
    layers = [layer for layer in made.modules() if next(layer.children(), None) is None]
    with torch.no_grad():
        for layer, following in pairwise(layers):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.normal_(0.0, 0.05, generator=random)
                assert layer.bias is not None
                layer.bias.normal_(0.0, 0.1, generator=random)
                if isinstance(following, nn.InstanceNorm2d):
                    layer.weight *= scale
                    layer.bias *= scale
    return made.eval()


@pytest.fixture(scope="module")
def signal() -> Tensor:
    random = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return nn.functional.interpolate(random, (64, 64), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, onnx.ModelProto]:
    """The generator as float32 in and out, which keeps more digits than pictures; with norms in half once too."""
    path = tmp_path_factory.mktemp("graphs") / "graph.onnx"
    made: dict[Kind, onnx.ModelProto] = {}
    write_onnx(generator(), path, Graph("fp16", "float"))
    made["fp16"] = onnx.load(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(to_onnx, "half_convolutions", lambda generator: copy.deepcopy(generator).half())
        write_onnx(generator(), path, Graph("fp16", "float"))
    made["all half"] = onnx.load(path)
    return made


def with_weights(model: onnx.ModelProto, weights: dict[str, Tensor], dtype: torch.dtype) -> onnx.ModelProto:
    """The graph that an export of these weights would give: each replaced by its name, and rounded."""
    changed = copy.deepcopy(model)
    for tensor in changed.graph.initializer:
        value = weights.get(tensor.name.removeprefix("generator."))
        if value is not None:
            rounded = np.asarray(value.to(dtype).float()).astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return changed


def decibels(model: onnx.ModelProto, scale: float, signal: Tensor, dtype: torch.dtype) -> float:
    """How far the graph is from float32 PyTorch, by the evaluator of the ONNX standard."""
    scaled = generator(scale)
    changed = with_weights(model, scaled.state_dict(), dtype)
    with torch.no_grad(), np.errstate(all="ignore"):
        (found,) = ReferenceEvaluator(changed).run(None, {"input": signal.numpy()})
        error = np.square(np.asarray(found, np.float64) - scaled(signal).numpy()).mean()
    return float(10 * np.log10(4 / error))  # the signal's range is 2


@pytest.mark.parametrize("scale", [1, 10, 1000])
def test_float16_stays_above_60_db_whatever_the_weights_before_a_norm(
    graphs: dict[Kind, onnx.ModelProto], signal: Tensor, scale: float
) -> None:
    assert decibels(graphs["fp16"], scale, signal, torch.float16) > 60


@pytest.mark.parametrize("scale", [10, 1000])
def test_norms_in_float16_would_lose_the_picture(
    graphs: dict[Kind, onnx.ModelProto], signal: Tensor, scale: float
) -> None:
    """What this is to prevent: a sum over the picture has no room in float16, though each of its values has."""
    plain, scaled = (decibels(graphs["all half"], by, signal, torch.float16) for by in (1, scale))

    assert plain > 60
    assert not scaled > 20  # nor is NaN
