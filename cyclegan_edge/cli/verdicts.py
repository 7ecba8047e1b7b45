"""What `export` and `verify` print of the files they compared: one table, and why some are not good."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.segment import SegmentLines
from rich.table import Column, Table

from cyclegan_edge.cli.console import console, say
from cyclegan_edge.errors import CycleGanEdgeError, ExportError

if TYPE_CHECKING:
    from cyclegan_edge.export.parity import LayerError, OnVerdict, Verdict

_WIDE = 200  # characters: a line may be longer than the screen, but nothing is cut off
_WORST = 12  # layers
_COLOURS = {"good": "green", "failed": "red", "skipped": "yellow"}


@contextlib.contextmanager
def verdict_table() -> Iterator["OnVerdict"]:
    """An `OnVerdict` that lets the block go on when a file fails; then the table, and ExportError when one did.

    The table and the reasons are also printed when the block itself raises.
    """
    verdicts: list[Verdict] = []
    raised = ""

    def on_verdict(verdict: "Verdict") -> None:
        verdicts.append(verdict)
        if verdict.outcome != "skipped":
            say(_line(verdict))

    try:
        yield on_verdict
    except CycleGanEdgeError as error:
        raised = str(error)
        raise
    finally:
        print_table(verdicts)
        print_reasons([verdict for verdict in verdicts if verdict.reason != raised])
    if failed := [verdict.file for verdict in verdicts if verdict.outcome == "failed"]:
        files = ", ".join(dict.fromkeys(failed))
        raise ExportError(f"{len(failed)} of {len(verdicts)} failed, {files}; the reasons are above.")


def print_table(verdicts: Sequence["Verdict"]) -> None:
    """One line of numbers per file, and per engine where there are several."""
    if not verdicts:
        return
    numbers = (Column(heading, justify="right") for heading in ("max", "mean", "PSNR", "SSIM", ">1 level"))
    table = Table("file", "engine", *numbers, "bound", "", box=None, header_style="bold")
    for verdict in verdicts:
        outcome = f"[{_COLOURS[verdict.outcome]}]{verdict.outcome}[/]"
        table.add_row(escape(verdict.file), escape(verdict.engine), *_numbers(verdict), outcome)
    if not any(verdict.engine for verdict in verdicts):
        del table.columns[1]
    lines = console.render_lines(table, console.options.update(width=_WIDE), pad=False)
    console.print(SegmentLines(lines, new_lines=True), end="")


def print_reasons(verdicts: Sequence["Verdict"]) -> None:
    """Why those that are not good are not, each reason once."""
    others = [verdict for verdict in verdicts if verdict.outcome != "good"]
    for reason in dict.fromkeys(
        f"{verdict.outcome}, {f'{verdict.engine}: ' if verdict.engine else ''}{verdict.reason}" for verdict in others
    ):
        console.print(reason, markup=False)
    for verdict in others:
        if verdict.layers:
            console.print(_layer_table(verdict.layers))


def _layer_table(layers: Sequence["LayerError"]) -> Table:
    """What eight bits cost each layer, the worst first."""
    table = Table("layer", "", *(Column(it, justify="right") for it in ("in", "weights", "out")), "", box=None)
    worst = sorted(layers, key=lambda it: min(it.entry_db, it.weight_db, it.result_db))
    for layer in worst[:_WORST]:
        ratios = (f"{it:.0f} dB" for it in (layer.entry_db, layer.weight_db, layer.result_db))
        table.add_row(escape(layer.layer), layer.operator, *ratios, "int8" if layer.int8 else "left in float32")
    return table


def _line(verdict: "Verdict") -> str:
    found: list[str] = [] if verdict.outcome == "good" else [verdict.outcome]
    if verdict.bytes:
        found.append(f"{verdict.bytes / 1e6:.1f} MB")
    if verdict.parity:
        found.append(f"at most {verdict.parity.max_levels} of 255 levels from PyTorch")
    return f"{', '.join(filter(None, (verdict.file, verdict.engine)))}: {', '.join(found)}."


def _numbers(verdict: "Verdict") -> tuple[str, ...]:
    parity = verdict.parity
    if parity is None:
        return ("",) * 6
    bound = parity.bound
    return (
        str(parity.max_levels),
        f"{parity.mean_levels:.4f}",
        f"{parity.psnr_db:.1f} dB",
        f"{parity.ssim:.5f}",
        f"{parity.share_above_1:.3%}",
        f"max {bound.max_levels}, {bound.least_psnr_db:.0f} dB, {bound.least_ssim}",
    )
