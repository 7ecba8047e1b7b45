"""What README and docs/ tell people to type exists, links lead somewhere, and quoted sentences are really said."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
import typer

import cyclegan_edge
from cyclegan_edge.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/trained/README.md")),
    *(ROOT / "cyclegan_edge/models").glob("*/README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
OURS = re.compile(r"(?:\S*/)?cyclegan-edge|\S*python3? -m cyclegan_edge|torchrun .*-m cyclegan_edge")
COMMAND: Any = typer.main.get_command(app)  # of click, or of the copy that newer versions of typer bring
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Typed(NamedTuple):
    """A command that a page shows."""

    page: str
    text: str


def code_of(page: Path) -> Iterator[str]:
    """The lines of its blocks and its inline code; a line that ends in a backslash goes on."""
    block: list[str] | None = None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            block = [] if block is None else None
        elif block is not None:
            yield line
        else:
            yield from (code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", line))


def typed() -> Iterator[Typed]:
    for page in PAGES:
        for code in code_of(page):
            if (ours := OURS.match(code)) and code[ours.end() :].startswith(" "):
                yield Typed(page.name, code[ours.end() :].strip())


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after them."""
    command: Any = COMMAND
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def every(command: Any) -> Iterator[Any]:
    """A command and all below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from every(below)


def settings_of(config: type[Any], prefix: str = "") -> Iterator[str]:
    """Every name that `--set` knows: "size", "generator.width"."""
    hints = get_type_hints(config)
    for field in fields(config):
        if is_dataclass(kind := hints[field.name]) and isinstance(kind, type):
            yield from settings_of(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def sentences() -> str:
    """Every string in the code, "…" where something is put in."""
    package = Path(cyclegan_edge.__file__).parent
    found: list[str] = []
    for path in [it for part in ("", "train", "export") for it in (package / part).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(it.value) if isinstance(it, ast.Constant) else "…" for it in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


COMMANDS = list(dict.fromkeys(typed()))


def test_the_pages_show_commands() -> None:
    assert {"README.md", "jetson.md"} <= {shown.page for shown in COMMANDS}
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: f"{shown.page}: {shown.text}")
def test_a_command_and_its_options_exist(shown: Typed) -> None:
    words = shlex.split(re.split(r"\s(?:&&|\|)\s", shown.text)[0], comments=True)

    command, rest = command_of(words)

    known = {"-h", "--help"} | {name for it in command.params for name in (*it.opts, *it.secondary_opts)}
    unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    assert not unknown, f"`{command.name}` has no {unknown[0]}"


def test_settings_that_are_shown_exist() -> None:
    config = pytest.importorskip("cyclegan_edge.train.config")
    distilled = pytest.importorskip("cyclegan_edge.train.distill.config")
    known = {*settings_of(config.TrainConfig), *settings_of(distilled.DistillConfig)}
    groups = {name.partition(".")[0] for name in known if "." in name}
    codes = [code for page in PAGES for code in code_of(page)]

    shown = {name for code in codes for name in re.findall(r"--set[ =]([\w.]+)=", code)}
    alone = {match[1] for code in codes if (match := re.fullmatch(r"(\w+\.\w+)(=\S+)?", code))}
    shown |= {name for name in alone if name.partition(".")[0] in groups}

    assert {"generator.width", "objective.gan"} <= shown
    assert not shown - known


def test_the_options_that_replace_the_reference_s_exist() -> None:
    """The second column of docs/differences.md."""
    rows = re.findall(
        r"^\|[^|]*\|([^|]*)\|", (ROOT / "docs" / "differences.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    shown = {option for row in rows for option in re.findall(r"(?<!\S)`?(--[a-z][a-z-]*)", row)}
    known = {name for command in every(COMMAND) for it in command.params for name in (*it.opts, *it.secondary_opts)}

    assert {"--resume", "--direction"} <= shown
    assert not shown - known


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_what_the_jetson_page_quotes_is_said_somewhere() -> None:
    rows = re.findall(r'^\| "([^"]+)" \|', (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8"), re.MULTILINE)
    said = sentences()

    assert len(rows) > 8
    assert [row for row in rows if row not in said] == []
