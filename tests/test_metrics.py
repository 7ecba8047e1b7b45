import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cyclegan_edge.errors import ImageError
from cyclegan_edge.metrics import MAX_PSNR, psnr, ssim


@pytest.mark.parametrize("shape", [(11, 11, 3), (37, 64, 3), (120, 90, 3)])
@pytest.mark.parametrize("noise", [1, 20, 200])
def test_metrics_equal_scikit_image(shape: tuple[int, int, int], noise: int, rng: np.random.Generator) -> None:
    a = rng.integers(0, 256, shape, dtype=np.uint8)
    b = np.clip(a + rng.integers(-noise, noise + 1, shape), 0, 255).astype(np.uint8)

    theirs = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )

    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-9)
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-9)


def test_one_level_everywhere_is_48_decibels() -> None:
    a = np.full((16, 16, 3), 100, np.uint8)

    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)  # 20 log10(255)


def test_equal_pictures_score_best(rng: np.random.Generator) -> None:
    a = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)

    assert psnr(a, a.copy()) == MAX_PSNR
    assert ssim(a, a.copy()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (np.zeros((12, 12, 3), np.uint8), np.zeros((12, 13, 3), np.uint8), r"shapes \(12, 12, 3\) and \(12, 13, 3\)"),
        (np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8), r"The first picture has shape \(12, 12\)"),
        (np.zeros((12, 12, 3), np.uint8), np.zeros((12, 12, 3)), "The second picture is float64"),
        (np.zeros((10, 12, 3), np.uint8), np.zeros((10, 12, 3), np.uint8), "12x10 px, SSIM needs at least 11x11"),
    ],
)
def test_ssim_refuses(a: np.ndarray, b: np.ndarray, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        ssim(a, b)
