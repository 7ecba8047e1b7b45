"""What a CPU is told apart by."""

from pathlib import Path

import pytest

from cyclegan_edge import machine
from cyclegan_edge.machine import cpu_class, has_bfloat16, has_half, this_machine

ZEN_5 = "fma avx2 avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx_vnni sse2"
INFO = {
    "x86": "processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: sse2 avx2 fma\n",
    "arm": "Features\t: asimd asimddp\n",
}


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (f"{ZEN_5} amx_bf16 amx_int8", "amx"),
        (ZEN_5, "avx512-bf16"),
        ("sse2 fma avx2 avx512f avx512bw avx512vl avx512_vnni", "avx512-vnni"),
        ("sse2 fma avx2 avx512f avx512bw avx512vl", "avx512"),
        ("sse2 fma avx2 avx_vnni", "avx2-vnni"),
        ("sse2 fma avx2", "avx2"),
        ("sse2", "sse"),
        ("fp asimd asimddp i8mm bf16", "neon-bf16"),
        ("fp asimd asimddp", "neon-dot"),
        ("fp asimd", "neon"),
        ("", "other"),
    ],
)
def test_a_cpu_belongs_to_the_best_class_that_it_has_all_of(flags: str, found: str) -> None:
    assert cpu_class(frozenset(flags.split())) == found


def test_types_that_a_cpu_has_are_told_from_those_it_emulates() -> None:
    assert has_bfloat16(frozenset(ZEN_5.split()))
    assert not has_bfloat16(frozenset({"avx512_vnni"}))
    assert has_half(frozenset({"fphp"}))
    assert not has_half(frozenset(ZEN_5.split()))


@pytest.mark.parametrize(("kind", "name", "known"), [("x86", "AMD EPYC", "avx2"), ("arm", "", "neon-dot")])
def test_linux_names_the_features_of_x86_and_arm_differently(
    kind: str, name: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_first_text", lambda paths: INFO[kind] if paths == ("/proc/cpuinfo",) else "")

    found = this_machine()

    assert found.cpu_class == known
    assert found.cpu == name or not name


def test_nothing_is_an_error_where_the_system_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_first_text", lambda paths: "")

    found = this_machine()

    assert (found.cpu_class, found.flags) == ("other", ())
    assert found.cores >= 1
