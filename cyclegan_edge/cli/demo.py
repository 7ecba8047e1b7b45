"""`cyclegan-edge demo`: the whole path on rendered landscapes, with no GPU, camera or download."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, say, track
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    from cyclegan_edge.translator import Translator

NUMBERS = "numbers.json"  # written last; its folder may be replaced by the next demo
SIZE = 128  # px, of the pictures and of the crops
PICTURES, TESTS = 150, 16  # of each season
FRAME = (256, 448)  # height and width of the video's halves
FRAMES, FPS = 150, 25.0
LEARNING_RATE = 6e-4  # three times the recipe's: the small networks of a few minutes take it, and need it
COLUMNS = 6  # test pictures in the picture of before and after


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; a former demo there is replaced.")] = Path("demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps; more look better.")] = 1200,
    seed: Annotated[int, typer.Option(min=0, help="Of the landscapes and of the training.")] = 0,
) -> None:
    """Turn summer into winter: render landscapes, train on them, export, and translate a moving picture."""
    from cyclegan_edge.cli.training import show_training
    from cyclegan_edge.cli.verdicts import verdict_table
    from cyclegan_edge.export.config import ExportConfig
    from cyclegan_edge.export.pipeline import export_checkpoint
    from cyclegan_edge.scenes import write_dataset
    from cyclegan_edge.train.checkpoint_files import find_checkpoint
    from cyclegan_edge.train.config import OptimiserConfig, OutputConfig, TrainConfig
    from cyclegan_edge.train.networks import DiscriminatorConfig, GeneratorConfig
    from cyclegan_edge.train.runs import Run, hold
    from cyclegan_edge.train.schedule import ScheduleConfig
    from cyclegan_edge.translator import Translator

    _clear(out)
    console.rule("1 of 4: landscapes in summer (A) and in winter (B)")
    scenes = write_dataset(out / "scenes", train=PICTURES, test=TESTS, size=SIZE, seed=seed)
    for _ in track(scenes, "rendering", total=2 * PICTURES + 3 * TESTS):
        pass
    console.rule("2 of 4: training, unpaired")
    config = TrainConfig(
        data=str(out / "scenes"),
        size=SIZE,
        seed=seed,
        generator=GeneratorConfig(width=16, blocks=4),
        discriminator=DiscriminatorConfig(width=16),
        optimiser=OptimiserConfig(learning_rate=LEARNING_RATE),
        schedule=ScheduleConfig(steps=steps),
        output=OutputConfig(save_every=500),
    )
    with hold(out / "run", new=False) as folder:
        losses = show_training(Run(folder=folder, config=config))
    console.rule("3 of 4: export, summer to winter")
    checkpoint = find_checkpoint(out / "run")
    assert checkpoint is not None  # the run has just ended well
    with verdict_table() as on_verdict:
        bundle = export_checkpoint(
            checkpoint,
            out / "model",
            ExportConfig(compare=TESTS),
            say=say,
            on_verdict=on_verdict,
        )
    parity = bundle.manifest.artifacts[0].parity
    assert parity is not None  # what is exported is compared
    console.rule("4 of 4: translating")
    translator = Translator.load(out / "model")
    numbers = {
        "losses": losses,
        "parity": asdict(parity),
        "quality": _compare(out / "scenes", translator, out / "before-after.png"),
        "video": _film(translator, out / "video.mp4"),
    }
    (out / NUMBERS).write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    _print(out, numbers)


def _clear(out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    known = {"scenes", "run", "model", "before-after.png", "video.mp4", NUMBERS}
    if strange := sorted(path.name for path in out.iterdir() if path.name not in known):
        raise ConfigError(f"{out} holds {strange[0]}, which is no part of a demo; name another folder with --out.")
    from cyclegan_edge.train.runs import hold

    with hold(out / "run", new=False):  # unless another demo trains there
        shutil.rmtree(out)


def _compare(scenes: Path, translator: "Translator", picture: Path) -> dict[str, float]:
    """Translate the summer test pictures, compare them with their true winter, and show some: real, made, true."""
    from cyclegan_edge.images import write_image
    from cyclegan_edge.train.evaluate.quality import find_sets, quality_of

    sets = find_sets(scenes, size=SIZE)
    some = zip(map(sets.load, sets.sources[:COLUMNS]), map(sets.load, sets.truths), strict=False)
    write_image(picture, np.hstack([np.vstack([summer, translator(summer), winter]) for summer, winter in some]))
    truth = quality_of(translator.run, None, sets).truth
    assert truth is not None  # each test picture has its winter
    return {"pictures": len(sets.sources), **asdict(truth)}


def _film(translator: "Translator", path: Path) -> dict[str, float | str]:
    """What `webcam --source synthetic --side-by-side --out` does, frame by frame."""
    from cyclegan_edge.video.overlay import LiveView
    from cyclegan_edge.video.pipeline import Pipeline, warm_up
    from cyclegan_edge.video.recorder import open_video
    from cyclegan_edge.video.sources import open_source
    from cyclegan_edge.video.timings import Timings

    timings = Timings()
    view = LiveView("side-by-side", numbers=timings.recent)
    source = open_source("synthetic", size=FRAME, fps=FPS)
    warm_up(translator, FRAME)
    with open_video(path, size=(FRAME[0], 2 * FRAME[1]), fps=FPS) as sink:
        frames = Pipeline(source, [sink], view=view, every=True).run(translator, frames=FRAMES)
        for timing in track(frames, "filming", total=FRAMES):
            timings.add(timing)
    summary = timings.summary()
    milliseconds = {f"{stage}_ms": value for stage, value in summary.median._asdict().items()}
    about = {"engine": translator.name, "device": translator.device}
    return {**about, "frames": summary.frames, "fps": summary.fps, **milliseconds}


def _print(out: Path, numbers: dict[str, Any]) -> None:
    place = escape(str(out))
    quality, video, parity = numbers["quality"], numbers["video"], numbers["parity"]
    console.print(
        f"\nAgainst the true winter of {quality['pictures']} unseen summer pictures: PSNR "
        f"{quality['psnr_untranslated_db']:.1f} -> [bold]{quality['psnr_translated_db']:.1f} dB[/bold], SSIM "
        f"{quality['ssim_untranslated']:.2f} -> [bold]{quality['ssim_translated']:.2f}[/bold] by the translation.\n"
        f"The exported graph is at most {parity['max_levels']} of 255 levels from PyTorch; {escape(video['engine'])} "
        f"on {escape(video['device'])} ran {video['fps']:.1f} frames a second.\n\n"
        f"Look at [bold]{place}/before-after.png[/bold] (summer, translated, true winter) and "
        f"[bold]{place}/video.mp4[/bold]; the numbers are in {place}/{NUMBERS}.\n"
        f"Next: [bold]cyclegan-edge webcam {place}/model --source synthetic[/bold], or your own pictures: "
        f"[bold]cyclegan-edge train FOLDER[/bold]"
    )
