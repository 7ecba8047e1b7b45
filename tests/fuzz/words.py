"""Seeded attacks by words: TOML files and assignments of settings, and options of every command.

python tests/fuzz/words.py settings|options COUNT [SEED]

A sentence or an answer is good; anything else is printed with its number, and the counts at the end.
"""

import contextlib
import io
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
import typer

from cyclegan_edge.cli import app, main
from cyclegan_edge.errors import CycleGanEdgeError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.images import write_image
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.checkpoint import save_checkpoint
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.runs import new_run
from cyclegan_edge.train.state import new_state

WORDS = [
    "",
    "0",
    "-1",
    "1",
    "2",
    "3.5",
    "nan",
    "inf",
    "1e400",
    "9" * 40,
    "9" * 5000,
    "true",
    "null",
    "[]",
    "{}",
    "[/]",
    "[red]",
]
WORDS += [
    "'",
    '"',
    "\\",
    "\x1b[2J",
    "é",
    "\udcff",
    "日本",
    "a" * 300,
    "../" * 40,
    "/dev/null",
    "/proc/self/mem",
    ".",
    "data",
]
WORDS += [
    "64x64",
    "0x0",
    "1/4",
    "rgb",
    "auto",
    "8.6,x",
    "a,b",
    "=",
    "a=b",
    "size=64",
    "[" * 2000,
    "{a=" * 500,
    "2020-01-01",
]
HEAVY = {"demo", "doctor", "bench", "webcam", "scenes"}  # do something with no file at all, or for ever


SMALL = ["--size=32", "--steps=1", "--set=generator.width=4", "--set=generator.blocks=1", "--set=discriminator.width=4"]


def settings_of(kind: Any, before: str = "") -> list[str]:
    """The dotted name of every setting."""
    names = []
    for name, hint in get_type_hints(kind).items():
        if name in {field.name for field in fields(kind)}:
            names += settings_of(hint, f"{before}{name}.") if is_dataclass(hint) else [f"{before}{name}"]
    return names


def try_settings(rng: random.Random, place: Path) -> None:
    """A TOML file of some lines, and some assignments."""
    names = [*settings_of(TrainConfig), "wrong", "size.of", "generator", ""]

    def line() -> str:
        word = rng.choice(WORDS)
        return f"{rng.choice(names)} = {rng.choice([word, json.dumps(word), f'[{word}]'])}"

    toml = "\n".join([*(line() for _ in range(rng.randrange(4))), rng.choice(["", "[generator]", "[[size]]", line()])])
    content = toml.encode(errors="surrogateescape")
    if rng.random() < 0.1:
        content = content[: rng.randrange(len(content) + 1)] + rng.randbytes(4)
    (file := place / "settings.toml").write_bytes(content)
    given = [f"{rng.choice(names)}{rng.choice(['=', '=', ''])}{rng.choice(WORDS)}" for _ in range(rng.randrange(3))]
    new_run({"data": rng.choice([*WORDS, "a\0b", "x"])}, file=file if rng.random() < 0.7 else None, assignments=given)


def try_options(rng: random.Random, place: Path) -> None:
    """A command with arguments and options of its own."""
    words: list[str] = []
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        word = rng.choice(sorted(set(command.commands) - HEAVY))
        words, command = [*words, word], command.commands[word]
    good = [str(place / "data"), str(place / "model"), str(place / "run"), str(place / "data" / "trainA")]
    words += SMALL if words == ["train"] else []
    options = [option for option in command.params if option.param_type_name != "argument"]
    for option in command.params:
        if option.param_type_name == "argument":
            words += [rng.choice(good if rng.random() < 0.7 else WORDS)] if rng.random() < 0.95 else []
        elif rng.random() < 1.5 / len(options) and "--help" not in option.opts:
            words.append(rng.choice(option.opts))
            words += [] if option.is_flag else [rng.choice(WORDS)]
    sys.argv = ["cyclegan-edge", *words]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main()
    except SystemExit as end:
        if end.code:
            raise CycleGanEdgeError from end


def attack(kind: str, count: int, first: int) -> None:
    attempt: Callable[[random.Random, Path], None] = {"settings": try_settings, "options": try_options}[kind]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for domain in ("trainA", "trainB"):
            for number in range(2):
                write_image(place / "data" / domain / f"{number}.png", np.zeros((16, 16, 3), np.uint8))
        if kind == "options":
            config = load_settings(TrainConfig, None, [word[6:] for word in SMALL[2:]], base={"data": "x"})
            checkpoint = save_checkpoint(place / "run", config, new_state(config, torch.device("cpu")))
            export_checkpoint(checkpoint, place / "model", ExportConfig(compare=1))
        os.chdir(place)
        for seed in range(first, first + count):
            try:
                attempt(random.Random(seed), place)
                counts["passed"] += 1
            except CycleGanEdgeError:
                counts["refused"] += 1
            except Exception as error:
                counts["FAILED"] += 1
                said = (str(error).strip() or "nothing").splitlines()[0]
                sys.stdout.write(
                    f"{seed}: {type(error).__name__}: {said:.150}  {' '.join(sys.argv):.300}\n".encode(
                        "ascii", "backslashreplace"
                    ).decode()
                )
                sys.stdout.flush()
        os.chdir("/")
    sys.stdout.write(f"{kind}: {count} tried, {dict(counts)}\n")


attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
