"""The parity gate: its numbers by hand, and what each of its bounds refuses."""

import numpy as np
import pytest

from cyclegan_edge.bounds import BOUNDS, Pair, measure, pairs_of
from cyclegan_edge.bundle import Bound
from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import ExportError
from cyclegan_edge.export.parity import compare, raise_failed

GREY = np.full((11, 11, 3), 100, np.uint8)  # one window of SSIM
LOOSE = Bound(max_levels=255, least_psnr_db=0.0, least_ssim=-1.0)


def off_by(*levels: int) -> Pair:
    """A grey picture, and itself with the red, green and blue of its middle off by so much."""
    wanted = GREY.copy()
    wanted[5, 5] += np.array(levels, np.uint8)
    return GREY, wanted


def test_what_differs_is_counted_by_hand() -> None:
    parity = measure(lambda images: images, [(GREY, GREY), off_by(1, 3, 0)], bound=LOOSE)

    values = 2 * 11 * 11 * 3
    assert (parity.images, parity.height, parity.width, parity.max_levels) == (2, 11, 11, 3)
    assert parity.mean_levels == pytest.approx((1 + 3) / values)
    assert parity.share_above_1 == pytest.approx(1 / values)
    assert parity.psnr_db == pytest.approx(10 * np.log10(255**2 * values / (1 + 9)))
    assert parity.bound == LOOSE


def test_the_ssim_of_flat_pictures_is_that_of_their_means_by_hand() -> None:
    darker = np.full_like(GREY, 80)

    parity = measure(lambda images: images, [(GREY, GREY), (GREY, darker)], bound=LOOSE)

    c1 = (0.01 * 255) ** 2  # flat: the second factor of the formula is 1
    assert parity.ssim == pytest.approx((1 + (2 * 100 * 80 + c1) / (100**2 + 80**2 + c1)) / 2)


def test_equal_pictures_score_best(rng: np.random.Generator) -> None:
    pictures = list(rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8))

    parity = measure(lambda images: 255 - images, pairs_of(lambda images: 255 - images, pictures), bound=BOUNDS["fp32"])

    assert (parity.max_levels, parity.mean_levels, parity.share_above_1) == (0, 0.0, 0.0)
    assert parity.psnr_db == 100.0
    assert parity.ssim == pytest.approx(1)


def test_a_level_off_upwards_and_downwards_counts_the_same() -> None:
    up, down = np.full_like(GREY, 255), np.full_like(GREY, 0)

    assert measure(lambda images: images, [(up, down), (down, up)], bound=LOOSE).max_levels == 255


@pytest.mark.parametrize(
    ("bound", "reason"),
    [
        (Bound(max_levels=2, least_psnr_db=0, least_ssim=-1), r"by up to 3 levels of 255, expected at most 2 \(1 pict"),
        (Bound(max_levels=255, least_psnr_db=80, least_ssim=-1), r"is 63\.7 dB from PyTorch, expected at least 80 \("),
        (Bound(max_levels=255, least_psnr_db=0, least_ssim=1), r"has an SSIM of 0\.99\d{3}, expected at least 1 \("),
        (Bound(max_levels=2, least_psnr_db=80, least_ssim=-1), r"at most 2, and is 63\.7 dB from PyTorch, expected"),
    ],
)
def test_each_bound_refuses_by_itself(bound: Bound, reason: str) -> None:
    verdict = compare("generator-fp16.onnx", lambda images: images, [off_by(1, 3, 0)], bound=bound)

    assert verdict.outcome == "failed"
    assert verdict.parity is not None
    with pytest.raises(ExportError, match=f"^generator-fp16.onnx .*{reason}"):
        raise_failed(verdict)


def test_what_is_exactly_at_its_bound_is_good() -> None:
    parity = measure(lambda images: images, [off_by(1, 3, 0)], bound=LOOSE)
    bound = Bound(max_levels=3, least_psnr_db=parity.psnr_db, least_ssim=parity.ssim)

    verdict = compare("graph", lambda images: images, [off_by(1, 3, 0)], bound=bound)

    assert (verdict.outcome, verdict.reason) == ("good", "")
    raise_failed(verdict)


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ExportError, match=r"shape \(11, 11, 3\) became one of \(10, 11, 3\), expected \(11, 11, 3\)"):
        measure(lambda images: images[:, 1:], [(GREY, GREY)], bound=LOOSE)


def test_less_precision_never_has_the_narrower_bound() -> None:
    full, half, brief = (BOUNDS[precision] for precision in ("fp32", "fp16", "bf16"))

    assert full.max_levels <= half.max_levels <= brief.max_levels
    assert full.least_psnr_db >= half.least_psnr_db >= brief.least_psnr_db
    assert full.least_ssim >= half.least_ssim >= brief.least_ssim


def test_bfloat16_below_40_db_is_refused_though_no_value_is_far_off() -> None:
    def brighter(images: Picture) -> Picture:
        return images + np.uint8(3)

    verdict = compare("generator-bf16.pt2", brighter, [(GREY, GREY)], bound=BOUNDS["bf16"])

    assert verdict.reason == "generator-bf16.pt2 is 38.6 dB from PyTorch, expected at least 40 (1 pictures)"
