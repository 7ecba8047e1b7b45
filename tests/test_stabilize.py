"""Quiet pictures: dark and plain scenes do not flicker, what is still is smoothed, and what moves is left alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cyclegan_edge.contract import Batch
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.video.frames import BgrPicture
from cyclegan_edge.video.stabilize import MOVED, FrameSkipper, Stabilizer, clearness


def stretched(batch: Batch) -> Batch:
    """What instance normalisation does: the contrast there is, whatever it is, becomes all there can be."""
    image = batch[0].astype(np.float32)
    normal = (image - image.mean((0, 1))) / (image.std((0, 1)) + 1e-3)
    translated: Batch = np.clip(128 + 50 * normal, 0, 255).astype(np.uint8)[np.newaxis]
    return translated


def noisy(level: float, sigma: float, rng: np.random.Generator, size: tuple[int, int] = (128, 160)) -> Batch:
    noise: Batch = np.clip(rng.normal(level, sigma, (1, *size, 3)).round(), 0, 255).astype(np.uint8)
    return noise


def scene(left: int = 0) -> BgrPicture:
    """Stripes and blocks with contrast."""
    picture = np.zeros((128, 160, 3), np.uint8)
    picture[:, ::20] = 200
    picture[40:80, 30 + left : 70 + left] = (250, 60, 120)
    return picture


def change(one: Batch, other: Batch) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


@pytest.mark.parametrize(("level", "sigma"), [(3, 2), (0, 1), (128, 1.5), (250, 2)])
def test_a_covered_lens_or_a_bare_wall_is_no_strobe(level: float, sigma: float, rng: np.random.Generator) -> None:
    stabilizer, inputs = Stabilizer(), [noisy(level, sigma, rng) for _ in range(6)]

    raw = [stretched(batch) for batch in inputs]
    shown = [stabilizer(batch, translated) for batch, translated in zip(inputs, raw, strict=True)]

    assert change(raw[0], raw[1]) > 30
    assert max(change(shown[i], shown[i + 1]) for i in range(5)) <= 2.5
    assert abs(float(shown[-1].mean()) - level) < 3


def test_a_picture_with_contrast_is_shown_as_it_was_translated(rng: np.random.Generator) -> None:
    batch = scene()[np.newaxis]

    assert clearness(batch[0]) == 1
    np.testing.assert_array_equal(Stabilizer()(batch, stretched(batch)), stretched(batch))


def test_real_pictures_have_contrast(test_data: Path) -> None:
    files = list_images(test_data / "horse2zebra" / "testA")
    shares = [clearness(np.asarray(cv2.resize(read_image(path), (256, 256)), np.uint8)) for path in files]

    assert min(shares) == 1


def test_between_the_two_the_change_is_gradual(rng: np.random.Generator) -> None:
    shares = []
    for contrast in range(0, 40, 2):
        image = np.full((128, 160, 3), 100, np.uint8)
        image[:, 80:] += contrast
        shares.append(clearness(image))

    assert shares == sorted(shares)
    assert any(0 < share < 1 for share in shares)


def test_where_nothing_moves_flicker_is_more_than_halved(rng: np.random.Generator) -> None:
    stabilizer, image = Stabilizer(), scene()[np.newaxis]
    stabilizer.smooth = True
    flickering = [
        np.clip(scene().astype(np.float32) * 0.6 + 60 + rng.normal(0, 8), 0, 255).astype(np.uint8) for _ in range(30)
    ]

    shown = [stabilizer(image, translated[np.newaxis])[0] for translated in flickering]

    before = np.mean([change(flickering[i][np.newaxis], flickering[i + 1][np.newaxis]) for i in range(5, 29)])
    after = np.mean([change(shown[i][np.newaxis], shown[i + 1][np.newaxis]) for i in range(5, 29)])
    assert after < before / 2


def test_where_the_input_moved_nothing_is_changed(rng: np.random.Generator) -> None:
    stabilizer = Stabilizer()
    stabilizer.smooth = True
    first, second = scene(0)[np.newaxis], scene(30)[np.newaxis]

    stabilizer(first, 255 - first)
    shown = stabilizer(second, 255 - second)

    moved = np.abs(second.astype(np.int16) - first).max(-1) > MOVED
    assert moved.any()
    assert np.abs(shown.astype(np.int16) - (255 - second))[moved].max() <= 0.5


def test_smoothing_begins_anew_with_a_picture_of_another_size() -> None:
    stabilizer = Stabilizer()
    stabilizer.smooth = True
    stabilizer(scene()[np.newaxis], scene()[np.newaxis])

    other = np.ascontiguousarray(scene()[:64])[np.newaxis]

    np.testing.assert_array_equal(stabilizer(other, 255 - other), 255 - other)


class Counting:
    """A translator that counts how often it runs."""

    runs = 0

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch:
        raise NotImplementedError

    def run(self, batch: Batch) -> Batch:
        self.runs += 1
        inverted: Batch = 255 - batch
        return inverted

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture:
        raise NotImplementedError


def test_a_static_scene_costs_one_run_whatever_the_noise(rng: np.random.Generator) -> None:
    skipper, translator = FrameSkipper(), Counting()
    skipper.enabled = True

    for _ in range(50):
        noise = rng.normal(0, 2, (128, 160, 3))
        skipper(np.clip(scene() + noise, 0, 255).astype(np.uint8)[np.newaxis], translator)

    assert translator.runs == 1
    assert skipper.skipped == 49


def test_what_moves_is_translated(rng: np.random.Generator) -> None:
    skipper, translator = FrameSkipper(), Counting()
    skipper.enabled = True

    outputs = [skipper(scene(left)[np.newaxis], translator) for left in (0, 4, 8)]

    assert translator.runs == 3
    np.testing.assert_array_equal(outputs[2][0], 255 - scene(8))


def test_a_slow_change_does_not_creep_past() -> None:
    skipper, translator = FrameSkipper(), Counting()
    skipper.enabled = True

    for step in range(40):
        skipper(np.clip(scene().astype(np.int16) + step, 0, 255).astype(np.uint8)[np.newaxis], translator)

    assert 10 <= translator.runs <= 20  # at each third level


def test_another_translator_runs_although_nothing_moved() -> None:
    skipper, one, other = FrameSkipper(), Counting(), Counting()
    skipper.enabled = True

    skipper(scene()[np.newaxis], one)
    skipper(scene()[np.newaxis], other)

    assert (one.runs, other.runs) == (1, 1)


def test_it_runs_always_unless_it_was_asked_to_skip() -> None:
    skipper, translator = FrameSkipper(), Counting()

    for _ in range(3):
        skipper(scene()[np.newaxis], translator)

    assert (translator.runs, skipper.skipped) == (3, 0)
