"""Sample sheets: the same pictures each time, from the test folders where there are any."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cyclegan_edge.contract import Picture
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.samples import GAP, SampleSheet
from cyclegan_edge.train.state import TrainState, new_state

SIZE = 32
LEVELS = {"trainA": 10, "trainB": 60, "testA": 110, "testB": 160}  # of the first picture of each folder


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    for folder, level in LEVELS.items():
        (tmp_path / folder).mkdir()
        for number in range(4):
            noise = rng.integers(0, 10, (40, 56, 3), dtype=np.uint8)
            write_image(tmp_path / folder / f"{number}.png", noise + np.uint8(level + 10 * number))
    return tmp_path


def build(data: Path, **settings: object) -> tuple[SampleSheet, TrainState]:
    small = {"size": SIZE, "generator.width": 4, "generator.blocks": 1, "discriminator.width": 4, "device": "cpu"}
    config = load_settings(TrainConfig, overrides={**small, "data": str(data), **settings})
    pairs = FolderPairs(find_pictures(data), seed=0)
    return SampleSheet(config, pairs), new_state(config, torch.device("cpu"))


def cell(sheet: Picture, row: int, column: int) -> Picture:
    top, left = row * (SIZE + GAP), column * (SIZE + GAP)
    return sheet[top : top + SIZE, left : left + SIZE]


def read_and_resized(path: Path) -> Picture:

    return resize(read_image(path), (SIZE, SIZE))


def test_rows_are_the_first_test_pictures_resized_as_for_an_evaluation(data: Path) -> None:
    sheet, state = build(data)

    drawn = sheet.draw(state)

    assert drawn.shape == (4 * (SIZE + GAP) - GAP, 3 * (SIZE + GAP) - GAP, 3)
    for row, name in enumerate(("testA/0", "testA/1", "testB/0", "testB/1")):
        np.testing.assert_array_equal(cell(drawn, row, 0), read_and_resized(data / f"{name}.png"))


def test_columns_are_what_an_export_would_make_of_them(data: Path) -> None:
    sheet, state = build(data, **{"optimiser.ema": 0.9})
    assert state.averages is not None
    with torch.no_grad():
        for parameter in state.networks.generator_ab.parameters():
            parameter.mul_(3.0)  # not what is exported
    ab, ba = translate_with(state.averages.generator_ab), translate_with(state.averages.generator_ba)

    drawn = sheet.draw(state)

    for row, (forward, inverse) in enumerate([(ab, ba), (ab, ba), (ba, ab), (ba, ab)]):
        translated = forward(cell(drawn, row, 0)[np.newaxis].copy())
        np.testing.assert_array_equal(cell(drawn, row, 1), translated[0])
        np.testing.assert_array_equal(cell(drawn, row, 2), inverse(translated)[0])


def test_without_test_pictures_the_first_training_pair_takes_their_place(data: Path) -> None:
    for path in (data / "testB").iterdir():
        path.write_bytes(b"damaged")
    sheet, state = build(data)

    drawn = sheet.draw(state)

    np.testing.assert_array_equal(cell(drawn, 0, 0), read_and_resized(data / "testA" / "0.png"))
    pairs = FolderPairs(find_pictures(data), seed=0).stream(0)
    for row in (2, 3):
        np.testing.assert_array_equal(cell(drawn, row, 0), resize(next(pairs).decode_b(), (SIZE, SIZE)))


def test_drawing_leaves_modes_weights_and_random_numbers_as_they_were(data: Path) -> None:
    sheet, state = build(data, **{"generator.dropout": True})
    modes = [module.training for _, network in state.networks.items() for module in network.modules()]
    before = {k: v.clone() for k, v in state.networks.generator_ab.state_dict().items()}
    random = torch.get_rng_state()

    first, second = sheet.draw(state), sheet.draw(state)

    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), random)
    assert modes == [module.training for _, network in state.networks.items() for module in network.modules()]
    assert all(torch.equal(value, before[name]) for name, value in state.networks.generator_ab.state_dict().items())


def test_a_grey_domain_is_drawn_too(data: Path) -> None:
    sheet, state = build(data, **{"pictures.colour_a": "grey", "objective.identity_weight": 0.0})

    drawn = sheet.draw(state)

    assert (cell(drawn, 2, 1).min(axis=2) == cell(drawn, 2, 1).max(axis=2)).all()  # B as grey A
