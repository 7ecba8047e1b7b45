"""Seeded mutations of an ncnn graph, each opened and run as a bundle's would be.

python mutated_ncnn.py PARAM BIN COUNT     prints each mutation before it is tried, at last "passed refused"
"""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from cyclegan_edge.backends.ncnn import NcnnBackend
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, Part, Source
from cyclegan_edge.errors import EngineError
from cyclegan_edge.files import sha256

WORDS = ["0", "-1", "2", "8", "65536", "99999999999", "1.5", "nan", "1e30", "-23300=1,1", "0=-233", "6=1", "7=2", "3"]
WORDS += ["Input", "Split", "Concat", "Reshape", "in0", "out0"]


def mutated(text: str, rng: random.Random) -> str:
    """A word replaced, taken away or doubled, or a line."""
    lines = [line.split() for line in text.splitlines()]
    line = rng.choice(lines)
    place = rng.randrange(len(line))
    match rng.randrange(6):
        case 0:
            line[place] = rng.choice(WORDS)
        case 1:
            key, equals, _ = line[place].partition("=")
            line[place] = f"{key}{equals}{rng.choice(WORDS)}" if equals else str(rng.randrange(40))
        case 2:
            del line[place]
        case 3:
            line.insert(place, rng.choice(WORDS))
        case 4:
            lines.insert(rng.randrange(len(lines)), [*line])
        case 5:
            line[place] = f"{line[place][:-1]}{rng.randrange(10)}"
    return "\n".join(" ".join(words) for words in lines) + "\n"


def main(param: Path, weights: Path, count: int) -> None:
    text, content = param.read_text(), weights.read_bytes()
    image = np.zeros((1, 16, 24, 3), np.uint8)
    source = Source(file="x", sha256="", step=1)
    manifest = Manifest(name="x", direction="ab", size=16, architecture={}, source=source, artifacts=())
    passed = refused = 0
    for seed in range(count):
        rng = random.Random(seed)
        changed = text
        for _ in range(rng.randrange(1, 3)):
            changed = mutated(changed, rng)
        cut = rng.randrange(len(content)) if rng.random() < 0.1 else len(content)
        param.write_text(changed)
        weights.write_bytes(content[:cut])
        sys.stdout.write(f"{seed}\n{changed}\n")
        sys.stdout.flush()
        part = Part(file=weights.name, sha256=sha256(weights))
        artifact = Artifact(file=param.name, format="ncnn", precision="fp32", sha256=sha256(param), parts=(part,))
        try:
            backend = NcnnBackend(Bundle(param.parent, replace(manifest, artifacts=(artifact,))), threads=1)
            assert backend.run(image).shape == image.shape
            passed += 1
        except EngineError:
            refused += 1
    sys.stdout.write(f"{passed} {refused}\n")


main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
