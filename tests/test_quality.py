"""Figures of quality: each equals what it is made of, and what cannot be worked out is refused by a sentence."""

from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest

from cyclegan_edge.errors import ConfigError, DataError
from cyclegan_edge.images import read_image, write_image
from cyclegan_edge.metrics import MAX_PSNR, psnr, ssim
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.evaluate.features import Distance, FeatureNetwork
from cyclegan_edge.train.evaluate.quality import (
    Cycle,
    Metric,
    Quality,
    Truth,
    better,
    check_metric,
    figure,
    find_sets,
    quality_of,
    reference_of,
)

Picture = npt.NDArray[np.uint8]
MEANS = FeatureNetwork(
    name="means",
    sha256="0" * 64,
    dimension=3,
    takes="uint8 0..255",
    run=lambda pictures: pictures.mean((1, 2), dtype=np.float32),
)


def invert(images: Picture) -> Picture:
    return 255 - images


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Five pictures each of testA and, by the same names, of truthB; seven of testB."""
    for folder, count in (("testA", 5), ("truthB", 5), ("testB", 7)):
        for number in range(count):
            write_image(tmp_path / folder / f"{number}.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    return tmp_path


def test_truth_is_the_mean_psnr_and_ssim_at_training_s_resize(data: Path) -> None:
    found = quality_of(invert, None, find_sets(data, size=32)).truth

    pairs = [
        [resize(read_image(data / folder / f"{number}.png"), (32, 32)) for folder in ("testA", "truthB")]
        for number in range(5)
    ]
    assert found is not None
    assert found.psnr_untranslated_db == pytest.approx(np.mean([psnr(a, b) for a, b in pairs]))
    assert found.psnr_translated_db == pytest.approx(np.mean([psnr(255 - a, b) for a, b in pairs]))
    assert found.ssim_untranslated == pytest.approx(np.mean([ssim(a, b) for a, b in pairs]))
    assert found.ssim_translated == pytest.approx(np.mean([ssim(255 - a, b) for a, b in pairs]))


def test_the_cycle_is_perfect_when_the_way_back_undoes_the_way_there(data: Path) -> None:
    sets = find_sets(data, size=32)

    undone = quality_of(invert, invert, sets).cycle
    short = quality_of(lambda images: images // 2, lambda images: images * 2, sets).cycle  # odd levels lose one

    assert undone == Cycle(l1_levels=0, psnr_db=MAX_PSNR)
    assert short is not None
    assert short.l1_levels == pytest.approx(0.5, abs=0.02)
    assert short.psnr_db == pytest.approx(48.1308 + 3.0103, abs=0.1)  # half of the values are one level off


def test_the_distance_is_from_the_translated_pictures_to_the_real_ones(data: Path) -> None:
    sets = find_sets(data, size=32)
    reference = reference_of(MEANS, sets)
    same = find_sets(data, size=32, direction="ba")

    distance = quality_of(invert, None, sets, reference=reference).distance
    self_distance = quality_of(lambda images: images, None, same, reference=reference).distance

    assert distance is not None
    assert self_distance is not None
    assert (distance.translated, distance.real) == (5, 7)
    assert self_distance.fid == pytest.approx(0, abs=1e-3)  # testB against testB
    assert distance.fid > 1


def test_without_a_way_back_a_truth_and_a_network_nothing_is_left(data: Path) -> None:
    sets = find_sets(data, size=32, direction="ba")  # there is no truthA

    assert quality_of(invert, None, sets) == Quality()


def test_fewer_pictures_are_spread_over_the_folder_and_keep_their_truth(data: Path) -> None:
    sets = find_sets(data, size=32, most=3)

    assert [path.name for path in sets.sources] == ["0.png", "2.png", "4.png"]
    assert sets.truths == tuple(data / "truthB" / path.name for path in sets.sources)
    assert [path.name for path in sets.targets] == ["0.png", "3.png", "6.png"]


def test_progress_is_reported_picture_by_picture(data: Path) -> None:
    heard: list[tuple[int, int]] = []

    quality_of(invert, None, find_sets(data, size=32), on_progress=lambda done, total: heard.append((done, total)))

    assert heard == [(number, 5) for number in range(1, 6)]


def test_folders_that_cannot_be_evaluated_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"testA.* testB"):
        find_sets(tmp_path / "testA", size=32)
    (data / "truthB" / "3.png").unlink()
    with pytest.raises(DataError, match=r"truthB/3\.png .*testA"):
        find_sets(data, size=32)
    for path in list((data / "testB").iterdir())[1:]:
        path.unlink()
    (data / "truthB").rename(data / "elsewhere")
    with pytest.raises(DataError, match=r"2 pictures in .*testB.* 1;"):
        reference_of(MEANS, find_sets(data, size=32))


def quality(value: float) -> Quality:
    """Every figure is `value`."""
    return Quality(
        distance=Distance(fid=value, kid=value, kid_deviation=0, kid_subset=2, translated=2, real=2, caution=""),
        cycle=Cycle(l1_levels=value, psnr_db=value),
        truth=Truth(psnr_untranslated_db=0, psnr_translated_db=value, ssim_untranslated=0, ssim_translated=value),
    )


@pytest.mark.parametrize(("metric", "best"), [("fid", 1), ("kid", 1), ("cycle", 1), ("psnr", 2), ("ssim", 2)])
def test_better_is_smaller_for_distances_and_larger_for_likeness(metric: Metric, best: int) -> None:
    winner, loser = figure(metric, quality(best)), figure(metric, quality(3 - best))

    assert winner == best
    assert better(metric, winner, loser)
    assert not better(metric, loser, winner)
    assert not better(metric, winner, winner)
    assert better(metric, loser, None)


def test_a_metric_that_will_not_be_there_is_refused_beforehand(data: Path) -> None:
    with_truth, without = find_sets(data, size=32), find_sets(data, size=32, direction="ba")

    for metric in get_args(Metric):
        check_metric(metric, with_truth)
    check_metric("fid", without)
    check_metric("cycle", without)
    with pytest.raises(ConfigError, match=r"psnr .*truth"):
        check_metric("psnr", without)
    with pytest.raises(ConfigError, match=r"ssim .*truth"):
        check_metric("ssim", without)


@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_figure_that_was_not_measured_decides_nothing(metric: Metric) -> None:
    with pytest.raises(ConfigError, match=metric):
        figure(metric, Quality())


def test_test_pictures_are_found_by_the_names_of_their_domains(data: Path) -> None:
    (data / "test").mkdir()
    for folder, name in (("testA", "summer"), ("testB", "winter"), ("truthB", "truthB")):
        (data / folder).rename(data / "test" / name)

    sets = find_sets(data, size=32, domains="summer,winter")

    assert (sets.source, sets.target, sets.truth) == tuple(data / "test" / it for it in ("summer", "winter", "truthB"))
    assert len(sets.truths) == 5
