"""No text that pretends to be an ncnn graph reaches ncnn, whose own readers trust it and crash."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclegan_edge.backends.ncnn_param import NcnnGraph, read_graph
from cyclegan_edge.errors import EngineError

TEXT = """\
7767517
13 14
Input           in0     0 1 in0
Padding         pad     1 1 in0 1 0=3 1=3 2=3 3=3 4=2
Convolution     first   1 1 1 2 0=4 1=7 11=7 12=1 13=1 14=0 2=1 3=1 4=0 5=0 6=588 7=1
InstanceNorm    norm    1 1 2 3 0=4 1=1.000000e-5 2=1
ReLU            relu    1 1 3 4
Convolution     down    1 1 4 5 0=8 1=3 11=3 12=1 13=2 14=1 2=1 3=2 4=1 5=1 6=288 9=2 -23310=1,0.2
Split           split   1 2 5 6 7
Padding         mirror  1 1 6 8 0=1 1=1 2=1 3=1 4=2
ConvolutionDepthWise block 1 1 8 9 0=8 1=3 11=3 12=1 13=1 14=0 2=1 3=1 4=0 5=0 6=72 7=8
BinaryOp        add     2 1 7 9 10 0=0
Deconvolution   up      1 1 10 11 0=4 1=3 11=3 12=1 13=2 14=1 18=1 19=1 2=1 3=2 4=1 5=0 6=288
Convolution     last    1 1 11 12 0=3 1=1 11=1 12=1 13=1 14=0 2=1 3=1 4=0 5=1 6=12
TanH            tanh    1 1 12 out0
"""
FLOATS = [(588, True), (8, False), (288, True), (8, False), (72, True), (288, True), (12, True), (3, False)]  # tagged?


@pytest.fixture
def graph(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """A small graph as pnnx writes one, and its weights, the first convolution's of 16 bits."""
    param, weights = tmp_path / "g.param", tmp_path / "g.bin"
    param.write_text(TEXT)
    content = bytearray()
    for index, (count, tagged) in enumerate(FLOATS):
        values = rng.normal(0, 0.1, count).astype(np.float16 if index == 0 else np.float32)
        tag = (0x01306B47 if index == 0 else 0).to_bytes(4, "little") if tagged else b""
        content += tag + values.tobytes()
    weights.write_bytes(content)
    return param, weights


def read(graph: tuple[Path, Path], *changes: tuple[str, str]) -> NcnnGraph:
    text = graph[0].read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    graph[0].write_text(text)
    return read_graph(*graph, side=16)


def test_a_graph_as_the_converter_writes_it_passes_at_every_size(graph: tuple[Path, Path]) -> None:
    read(graph).check_size(8, 8)
    read(graph).check_size(64, 40)


def test_a_picture_that_does_not_fit_through_is_refused_before_ncnn_gets_it(graph: tuple[Path, Path]) -> None:
    with pytest.raises(EngineError, match=r"picture of 9x8 px: it makes \(3, 8, 10\) of \(3, 8, 9\)"):
        read(graph).check_size(8, 9)
    with pytest.raises(EngineError, match="line 4 mirrors more than there is of 3 rows"):
        read(graph).check_size(3, 16)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("7767517", "7767518", "does not begin with 7767517"),
        ("13 14", "13 15", "13 layers and 14 blobs"),
        ("13 14", "99999999999 14", "13 layers and 14 blobs"),
        ("ReLU            relu", "Reshape         relu", "'Reshape', which no generator has"),
        ("ReLU            relu    1 1 3 4", "ReLU            relu", "line 7 does not say how many blobs"),
        ("ReLU            relu    1 1 3 4", "ReLU            relu    1 9 3 4", "line 7 is a ReLU from 1 to 9 blobs"),
        ("ReLU            relu    1 1 3 4", "ReLU            relu    1 1 99 4", "a blob that is not there"),
        ("ReLU            relu    1 1 3 4", "ReLU            relu    1 1 2 4", "a blob that is not there, or is used"),
        ("1 1 3 4\n", "1 1 3 4 0=-1.0\n", r"line 7 is a ReLU with '0=-1\.0'"),
        ("1 1 12 out0", "1 1 12 out1", "do not lead from in0 to out0"),
        ("0 1 in0", "0 1 in1", "a blob that is not there"),
        ("0=4 1=7", "0=0 1=7", "line 5 is a Convolution with '0=0'"),
        ("0=4 1=7", "0=99999999999999999999 1=7", "line 5 is a Convolution with '0=9999"),
        ("0=4 1=7", "0=4.0 1=7", r"line 5 is a Convolution with '0=4\.0'"),
        ("0=4 1=7", "1=7", "line 5 is a Convolution without the number 0"),
        ("0=4 1=7", "0=4 77=1 1=7", "line 5 is a Convolution with '77=1'"),
        ("13=1 14=0", "13=0 14=0", "line 5 is a Convolution with '13=0'"),
        ("6=588", "6=589", "line 5 has 589 weights for 3 to 4 channels"),
        ("0=4 1=1.000000e-5", "0=5 1=1.000000e-5", "line 6 expects 5 channels and gets 4"),
        ("1=1.000000e-5", "1=nan", "line 6 is a InstanceNorm with '1=nan'"),
        ("9=2 -23310=1,0.2", "9=2", "leaky ReLU has no slope"),
        ("-23310=1,0.2", "-23310=9,0.2", "line 8 is a Convolution with '-23310=9,0.2'"),
        ("0=1 1=1 2=1 3=1 4=2", "0=1 1=1 2=1 3=3 4=2", r"line 12 adds \(8, 8, 8\) and \(8, 8, 10\)"),
        ("0=3 1=3 2=3 3=3 4=2", "0=4000 1=3 2=3 3=3 4=2", "line 4 mirrors more than there is of 16 rows"),
        ("0=3 1=3 2=3 3=3 4=2", "0=4000 1=3000 2=3000 3=3 4=0", r"line 4 makes a blob of shape \(3, 7016, 3019\)"),
        ("6=72 7=8", "6=72 7=3", "line 11 has 72 weights for 8 to 8 channels"),
        ("18=1 19=1", "18=0 19=1", r"it makes \(3, 16, 15\) of \(3, 16, 16\)"),
        ("13 14\nInput           in0     0 1 in0", "14 15\nInput in 0 1 in0\nInput in 0 1 x", "lead from in0 to out0"),
        ("first   1 1", "%s" * 100 + "   1 1", "line 5 has a name that is not one word"),
    ],
)  # fmt: skip
def test_what_no_converter_writes_is_refused_by_its_line(
    old: str, new: str, said: str, graph: tuple[Path, Path]
) -> None:
    with pytest.raises(EngineError, match=rf"g\.param is not an ncnn graph of this package: .*({said})"):
        read(graph, (old, new))


@pytest.mark.parametrize(
    "change", [lambda it: it[:-1], lambda it: it + b"\0", lambda it: b"\1" + it[1:], lambda it: b""]
)
def test_weights_that_are_not_those_of_the_graph_are_refused(change: object, graph: tuple[Path, Path]) -> None:
    assert callable(change)
    graph[1].write_bytes(change(graph[1].read_bytes()))

    with pytest.raises(EngineError, match=r"g\.bin has (\d+ bytes, expected \d+|no weights of 16 or 32 bits)"):
        read(graph)


def test_a_huge_or_empty_text_is_refused(graph: tuple[Path, Path]) -> None:
    for text, said in (("", "does not begin"), ("7767517\n" * (1 << 18), "more than 1048576 bytes")):
        graph[0].write_text(text)
        with pytest.raises(EngineError, match=said):
            read(graph)


def test_no_mutation_of_a_graph_brings_ncnn_down(graph: tuple[Path, Path]) -> None:
    """In a process of its own, which reads and runs each; what passes gives a picture of the right shape."""
    pytest.importorskip("ncnn")
    script = Path(__file__).parent / "data" / "mutated_ncnn.py"

    done = subprocess.run(
        [sys.executable, script, *graph, "400"], capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    passed, refused = map(int, done.stdout.splitlines()[-1].split())
    assert passed + refused == 400
    assert refused > 300
    assert passed > 5
