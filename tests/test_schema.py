"""Values from outside become a dataclass of exactly its annotations, or one sentence that names the wrong one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.schema import from_mapping, to_mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    file: str
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    kind: Literal["graph", "plan"]
    share: float
    main: Part
    parts: tuple[Part, ...] = ()
    shape: tuple[int, int] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


SMALL: dict[str, Any] = {"kind": "graph", "share": 0.5, "main": {"file": "a"}}


def test_every_kind_of_field_comes_back_as_it_was() -> None:
    record = Record(
        kind="plan",
        share=0.25,
        main=Part(file="a", bytes=3),
        parts=(Part(file="b"), Part(file="c", bytes=0)),
        shape=(1, 2),
        counts={"a.b": 1},
        anything={"deep": [{"er": None}]},
        folder=Path("here"),
    )

    plain = to_mapping(record)

    assert plain["folder"] == "here"
    assert plain["main"] == {"file": "a", "bytes": 3}
    assert from_mapping(Record, plain) == record


def test_a_field_with_a_default_may_be_missing_and_a_whole_number_is_a_float() -> None:
    record = from_mapping(Record, {**SMALL, "share": 1, "parts": [{"file": "b"}]})

    assert record == Record(kind="graph", share=1.0, main=Part(file="a"), parts=(Part(file="b"),))
    assert isinstance(record.share, float)


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"licence": "MIT"}, "licence is unknown"),
        ({"main": {"file": "a", "byte": 1}}, r"main\.byte is unknown; did you mean 'main\.bytes'"),
        ({"main": {}}, r"main\.file is missing"),
        ({"main": []}, r"main is \[\]"),
        ({"main": {"file": 1}}, r"main\.file is 1, .* str"),
        ({"main": {"file": "a", "bytes": True}}, r"main\.bytes is True, .* int"),
        ({"parts": [{"file": "b"}, {"file": None}]}, r"parts\[1\]\.file is None, .* str"),
        ({"parts": {"file": "b"}}, r"parts is .*tuple\[.*Part"),
        ({"shape": [1]}, r"shape is \[1\], .*tuple\[int, int\]"),
        ({"shape": [1, "2"]}, r"shape\[1\] is '2', .* int"),
        ({"counts": {"a": 0.5}}, r"counts\.a is 0\.5, .* int"),
        ({"kind": "net"}, "kind is 'net', .*'graph', 'plan'"),
        ({"kind": ["graph"]}, r"kind is \['graph'\]"),
        ({"share": "1"}, "share is '1', .* float"),
        ({"folder": 1}, "folder is 1, .* Path"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_dotted_name(wrong: dict[str, Any], facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        from_mapping(Record, {**SMALL, **wrong})


@pytest.mark.parametrize("content", [[], "text", None])
def test_content_that_is_not_a_mapping_is_refused(content: object) -> None:
    with pytest.raises(ConfigError, match="names and values"):
        from_mapping(Record, content)


def test_a_sentence_stays_short_whatever_the_value() -> None:
    with pytest.raises(ConfigError) as refused:
        from_mapping(Record, {**SMALL, "share": "9" * 10_000})

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63), 10**5000], ids=["64 bits", "negative", "5001 digits"])
def test_a_number_that_no_machine_word_holds_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=rf"main\.bytes .* {number.bit_length()} bits, expected at most 63"):
        from_mapping(Record, {**SMALL, "main": {"file": "a", "bytes": number}})


class Plain(TypedDict):
    names: list[str]
    array: np.ndarray  # of a class that is taken as it is


def test_a_typed_dict_and_a_list_are_checked_too() -> None:
    array = np.zeros(3)

    assert from_mapping(Plain, {"names": ["a"], "array": array}) == {"names": ["a"], "array": array}
    for values, sentence in (
        ({"names": ["a", 2], "array": array}, r"names\[1\] is 2, .* str"),
        ({"names": [], "array": [0]}, r"array is \[0\], .* ndarray"),
        ({"names": []}, "array is missing"),
        ({"names": [], "array": array, "more": 1}, "more is unknown"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            from_mapping(Plain, values)


def test_a_text_that_no_file_name_can_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"file is 'a\\x00b', expected no NUL in it"):
        from_mapping(Part, {"file": "a\0b"})
