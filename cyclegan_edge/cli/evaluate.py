"""`cyclegan-edge evaluate`: a run, a checkpoint or a bundle in, figures of its quality and their protocol out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.train.evaluate.evaluation import Candidate, Evaluation
    from cyclegan_edge.train.evaluate.features import FeatureNetwork

Direction = Literal["ab", "ba"]


def evaluate(
    source: Annotated[
        Path | None, typer.Argument(help="A run, a checkpoint, or a bundle.", show_default="the newest run")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds testA/ and testB/, and truthB/ where there is one.", show_default="the run's data"
        ),
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(help="ab: the generator that turns A into B.", show_default="ab, or the bundle's"),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="TorchScript network for FID and KID: (N, 3, S, S) to (N, D). It is a program, so use one you trust.",
            show_default="Inception",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=2, help="At most this many pictures of each folder.", show_default="all")
    ] = None,
    back: Annotated[
        Path | None, typer.Option(help="The bundle of the other direction, for the cycle.", show_default=False)
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="What runs a bundle.")] = "auto",
    precision: Annotated[
        Precision | None, typer.Option(help="Of a bundle: without it, fp16 for TensorRT and fp32 for the others.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the figures are stored.", show_default="evaluation/STEP.json in the run, or in the bundle"
        ),
    ] = None,
) -> None:
    """Measure SOURCE on test pictures: FID, KID, the cycle, and PSNR and SSIM where the truth is known."""
    from cyclegan_edge.bundle import MANIFEST
    from cyclegan_edge.train.evaluate.evaluation import evaluate as judge
    from cyclegan_edge.train.evaluate.evaluation import write_evaluation
    from cyclegan_edge.train.evaluate.quality import find_sets

    if source is not None and (source / MANIFEST).is_file():
        path = source / "evaluation.json"
        candidate = _open_bundle(source, data, direction, back, engine, precision)
    else:
        if back or precision or engine != "auto":
            raise ConfigError("--back, --engine and --precision are for bundles; leave them out for a checkpoint.")
        candidate, data, path = _open_checkpoint(source, data, direction or "ab")
    assert data is not None  # both have refused that
    sets = find_sets(data, size=candidate.size, direction=candidate.model.direction, most=images)
    console.print(
        f"Evaluating [bold]{escape(candidate.model.path)}[/bold], direction {candidate.model.direction}, with "
        f"{candidate.model.engine} on {candidate.model.device}: {len(sets.sources)} pictures at {sets.size} px."
    )
    network, without = _feature_network(features, size=sets.size)
    with progress_bar() as bar:
        task = bar.add_task("pictures", note="", total=None)
        evaluation = judge(
            candidate,
            sets,
            features=network,
            without_features=without,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
    write_evaluation(out or path, evaluation)
    _print(evaluation)
    console.print(f"\nThe figures and their protocol are in [bold]{escape(str(out or path))}[/bold].")
    if (page := path.parent.with_name("report.html")).is_file() and out is None:  # of a run that has ended
        from cyclegan_edge.train.report import write_report

        console.print(f"They are in [bold]{escape(str(write_report(page.parent)))}[/bold] too.")


def _open_bundle(
    folder: Path,
    data: Path | None,
    direction: Direction | None,
    back: Path | None,
    engine: EngineName,
    precision: Precision | None,
) -> "Candidate":
    from cyclegan_edge.train.evaluate.evaluation import open_bundle

    if data is None:
        raise ConfigError("A bundle does not know its pictures; name the folder that holds testA/ with --data.")
    candidate = open_bundle(folder, back=back, engine=engine, precision=precision)
    if direction not in (None, candidate.model.direction):
        raise ConfigError(
            f"{folder} has the direction {candidate.model.direction}, not {direction}; leave --direction out."
        )
    for reason in candidate.passed_over:
        console.print(reason, markup=False)
    return candidate


def _open_checkpoint(source: Path | None, data: Path | None, direction: Direction) -> "tuple[Candidate, Path, Path]":
    """The candidate, its data, and where its evaluation belongs."""
    from cyclegan_edge.cli.export import find_source
    from cyclegan_edge.train.checkpoint import load_config
    from cyclegan_edge.train.evaluate.evaluation import open_checkpoint

    _, checkpoint = find_source(source)
    candidate = open_checkpoint(checkpoint, direction=direction, device=_device())
    name = checkpoint.stem if direction == "ab" else f"{checkpoint.stem}-{direction}"
    in_run = checkpoint.resolve().parent.name == "checkpoints"
    path = checkpoint.parent.parent / "evaluation" / f"{name}.json" if in_run else checkpoint.with_name(f"{name}.json")
    return candidate, data or Path(load_config(checkpoint).data), path


def _feature_network(path: Path | None, *, size: int) -> "tuple[FeatureNetwork | None, str]":
    """The network for FID and KID, or None and why there is none; one that was asked for must be there."""
    from cyclegan_edge.errors import FeatureError

    try:
        from cyclegan_edge.train.evaluate.features import inception, scripted  # torch, torch-fidelity

        if path is not None:
            return scripted(path, size=size, device=_device()), ""
        return inception(_device()), ""
    except (FeatureError, ModuleNotFoundError) as error:
        if path is not None:
            raise
        if isinstance(error, ModuleNotFoundError):
            return None, f"{error.name} is not installed; add it with `pip install 'cyclegan-edge[evaluate]'`."
        return None, str(error)


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _print(evaluation: "Evaluation") -> None:
    quality, table = evaluation.quality, Table("", "translated", "as it was", box=None, header_style="bold")
    table.columns[1].justify = table.columns[2].justify = "right"
    if distance := quality.distance:
        table.add_row(f"FID to {distance.real} real pictures", f"{distance.fid:.4g}")
        table.add_row("KID", f"{distance.kid:.4g} ± {distance.kid_deviation:.2g}")
    if cycle := quality.cycle:
        table.add_row("there and back: L1, levels of 255", f"{cycle.l1_levels:.2f}")
        table.add_row("there and back: PSNR, dB", f"{cycle.psnr_db:.2f}")
    if truth := quality.truth:
        table.add_row("to the truth: PSNR, dB", f"{truth.psnr_translated_db:.2f}", f"{truth.psnr_untranslated_db:.2f}")
        table.add_row("to the truth: SSIM", f"{truth.ssim_translated:.3f}", f"{truth.ssim_untranslated:.3f}")
    if table.row_count:
        console.print(table)
    for sentence in (*evaluation.left_out, *([distance.caution] if distance and distance.caution else [])):
        console.print(sentence, markup=False)
