"""cli -> export -> train -> runtime -> _core: a folder imports only from folders to its right, and torch stays left."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cyclegan_edge

PACKAGE = Path(cyclegan_edge.__file__).parent
LAYERS = ["cli", "export", "train", "runtime", "_core"]
MODULES = sorted(path for layer in ["", *LAYERS[:3]] for path in (PACKAGE / layer).rglob("*.py"))

TRAINING_ONLY = {
    "jinja2",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorboard",
    "torch",
    "torch_fidelity",
    "torchvision",
}


def layer_of(module: str) -> str:
    """The layer of "cyclegan_edge.train.losses" is train."""
    return next((part for part in module.split(".")[1:2] if part in LAYERS), "runtime")


def name_of(path: Path) -> str:
    """ "cyclegan_edge.train.losses", links resolved."""
    return ".".join(["cyclegan_edge", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


FILES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in {*FILES, "cyclegan_edge._core"} else node.module for name in names)


@pytest.mark.parametrize("path", dict.fromkeys(MODULES), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_right(path: Path) -> None:
    name = name_of(path)
    own = "cli" if path.name == "__main__.py" else layer_of(name)

    found = list(imports(path))

    ours = [module for module in found if module.split(".")[0] == "cyclegan_edge"]
    backwards = [module for module in ours if LAYERS.index(layer_of(module)) < LAYERS.index(own)]
    assert not backwards, f"{name} belongs to {own} and imports {backwards}"
    if own == "runtime":
        assert not TRAINING_ONLY & {module.split(".")[0] for module in found}, f"{name} ships to the device"


def test_no_files_import_each_other_in_a_circle() -> None:
    needed = {name: {it for it in imports(path) if it in FILES and it != name} for name, path in FILES.items()}

    while free := [name for name, others in needed.items() if not others]:  # as a topological sort does
        for name in free:
            del needed[name]
        for others in needed.values():
            others.difference_update(free)

    assert not needed, f"among these there is a circle: {sorted(needed)}"


def test_no_command_imports_another() -> None:
    commands = {it for it in imports(FILES["cyclegan_edge.cli"]) if it.startswith("cyclegan_edge.cli.")}

    assert len(commands) > 8
    for name in commands:
        assert not commands & {*imports(FILES[name])}, f"{name} imports another command"


def test_every_layer_was_looked_at() -> None:
    assert {layer_of(".".join(["", *path.relative_to(PACKAGE).parts])) for path in MODULES} == set(LAYERS[:4])


@pytest.mark.parametrize(
    "use",
    [
        "from cyclegan_edge import *",
        "import cyclegan_edge.cli",
        "import typer.testing, cyclegan_edge.cli as cli; typer.testing.CliRunner().invoke(cli.app, ['doctor', '-h'])",
    ],
    ids=["library", "command", "help"],
)
def test_torch_is_not_loaded(use: str) -> None:
    check = "\nimport sys; loaded = {'torch', 'torchvision', 'tensorrt'} & set(sys.modules); assert not loaded, loaded"

    done = subprocess.run([sys.executable, "-c", use + check], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_help_needs_neither_opencv_nor_the_extension() -> None:
    check = "import sys, cyclegan_edge.cli; assert not {'cv2', 'cyclegan_edge._core'} & set(sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
