"""A bfloat16 graph for runtimes that have no bfloat16 convolutions: float32 operations, rounded as bfloat16 rounds.

What an operation gives is rounded to bfloat16, as the graph says, and is widened again for the next. A convolution of
bfloat16 values is summed in float32 by every processor that has one and rounded once, so this gives the same numbers up
to the order of the sum. It shows what the graph says, not what an engine makes of it that fuses operations.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every bfloat16 operation but Cast between casts from and to bfloat16; `model` is left as it is."""
    made = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = made.graph
    brief = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.BFLOAT16}
    weights = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.BFLOAT16]
    nodes = [part for node in graph.node for part in _widened(node, brief)]
    for weight in weights:
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype("float32"), weight.name))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(made, full_check=True)
    return made


def _widened(node: onnx.NodeProto, activations: set[str]) -> Iterator[onnx.NodeProto]:
    """The node among casts; itself where nothing of it is bfloat16."""
    if node.op_type == "Cast":
        yield node
        return
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    for place, name in enumerate(node.input):
        if name in activations:
            inner.input[place] = f"{node.output[0]}.wide{place}"
            yield helper.make_node("Cast", [name], [inner.input[place]], to=TensorProto.FLOAT)
    rounded = [place for place, name in enumerate(node.output) if name in activations]
    for place in rounded:
        inner.output[place] = f"{node.output[place]}.wide"
    yield inner
    for place in rounded:
        yield helper.make_node("Cast", [inner.output[place]], [node.output[place]], to=TensorProto.BFLOAT16)
