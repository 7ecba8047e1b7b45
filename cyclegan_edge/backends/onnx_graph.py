"""What may be given to an engine that reads ONNX: a graph of plain operators, which ends.

A file may hold loops without end, functions of its own and operators of other domains, and engines run them all. The
few fields that say so are read here from the bytes, because a device has no package `onnx`.

Source: onnx/onnx.proto; protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.errors import EngineError

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_GRAPH, _FUNCTIONS = 7, 25  # fields of ModelProto
_NODE = 1  # of GraphProto
_OPERATOR, _DOMAIN = 4, 7  # of NodeProto


def check_graph(path: Path) -> None:
    """Raise EngineError when the ONNX file `path` holds more than plain operators, or is no such file."""
    content = memoryview(path.read_bytes())
    try:
        for field, part in _fields(content):
            if field == _FUNCTIONS:
                raise EngineError(f"{path} holds functions of its own, which no exported graph does; export it again.")
            for node in (it for inner, it in _fields(part) if inner == _NODE) if field == _GRAPH else ():
                texts = {inner: bytes(it) for inner, it in _fields(node) if inner in (_OPERATOR, _DOMAIN)}
                operator, domain = (texts.get(it, b"").decode("ascii", "replace") for it in (_OPERATOR, _DOMAIN))
                if operator in _CONTROL_FLOW or domain not in ("", "ai.onnx"):
                    named = f"{domain} {operator}".strip()
                    raise EngineError(f"{path} holds {named:.80}, which no exported graph does; export it again.")
    except (IndexError, ValueError) as error:
        raise EngineError(f"{path} is not an ONNX file; export the model again.") from error


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
