"""What may be given to an engine that reads ONNX: a graph of plain operators, which ends.

A file may hold loops without end, functions of its own and operators of other domains, and engines run them all. They
also make whatever size a constant asks for, and what needs no picture they compute when they open the file, before any
limit of theirs. The few fields that say so are read here from the bytes, because a device has no package `onnx`.

Source: onnx/onnx.proto; protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.errors import EngineError

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_SIZED_BY_VALUE = frozenset({"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Range", "Tile", "Upsample"})
_SIZED_BY_VALUE |= {"RandomNormal", "RandomUniform"}
_KEEP_SIZE = frozenset({"Cast", "Constant", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose"})
_GRAPH, _FUNCTIONS = 7, 25  # fields of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_INPUT, _OUTPUT, _OPERATOR, _DOMAIN = 1, 2, 4, 7  # of NodeProto
_NAME = 8  # of TensorProto


def check_graph(path: Path) -> None:
    """Raise EngineError when the ONNX file `path` holds more than plain operators, or is no such file."""
    content = memoryview(path.read_bytes())
    try:
        for field, part in _fields(content):
            if field == _FUNCTIONS:
                raise EngineError(f"{path} holds functions of its own, which no exported graph does; export it again.")
            if field == _GRAPH and (found := _oddity(part)):
                raise EngineError(f"{path} holds {found:.99}, which no exported graph does; export it again.")
    except (IndexError, ValueError) as error:
        raise EngineError(f"{path} is not an ONNX file; export the model again.") from error


def _oddity(graph: memoryview) -> str:
    """What a GraphProto holds that is no plain operator, or an operator that makes much of little; else ""."""
    constants = {
        bytes(name) for field, it in _fields(graph) if field == _INITIALIZER for name in _texts(it, _NAME)[_NAME][-1:]
    }
    for field, node in _fields(graph):
        if field != _NODE:
            continue
        texts = _texts(node, _INPUT, _OUTPUT, _OPERATOR, _DOMAIN)
        operator, domain = (b"".join(texts[it][-1:]).decode("ascii", "replace") for it in (_OPERATOR, _DOMAIN))
        if operator in _CONTROL_FLOW | _SIZED_BY_VALUE or domain not in ("", "ai.onnx"):
            return f"{domain} {operator}".strip()
        if constants.issuperset(filter(None, texts[_INPUT])):
            if operator not in _KEEP_SIZE:
                return f"{operator} of constants alone"
            constants.update(texts[_OUTPUT])
    return ""


def _texts(message: memoryview, *wanted: int) -> dict[int, list[bytes]]:
    """What the wanted fields of a message hold, each as often as it is there."""
    found: dict[int, list[bytes]] = {field: [] for field in wanted}
    for field, part in _fields(message):
        if field in found:
            found[field].append(bytes(part))
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The number and the bytes of each field that has a length; the others are passed over."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        match key & 7:
            case 0:
                _, position = _varint(message, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(message, position)
                if length > len(message) - position:
                    raise ValueError("a field that is longer than its message")
                yield key >> 3, message[position : position + length]
                position += length
            case 5:
                position += 4
            case kind:
                raise ValueError(f"a field of the kind {kind}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and where it has ended."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
