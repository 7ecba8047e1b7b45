"""Each published layout is recognised from its weights alone and gives the same picture as its original.

The originals are written here from their published descriptions, in plain torch.nn: other code than that which rebuilds
them, with dropout and in-place layers where they have them.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan_edge import Translator
from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.errors import CheckpointError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.formats.onnx import half_convolutions
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.export.weights.recognise import NormChoice, recognise
from cyclegan_edge.train.evaluate.picture_generator import PictureGenerator, translate_with
from cyclegan_edge.train.networks import GeneratorConfig, ResnetGenerator, new_generator

FILE = Path("file.pth")

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """The reference's residual block; `name` is what its Sequential is called, `convolution` what it convolves with."""

    def __init__(
        self, width: int, inner: int, norm: Norm, *, bias: bool, dropout: bool, separable: bool, pad: str, name: str
    ) -> None:
        super().__init__()
        zeros = int(pad == "zero")

        def convolution(channels: int, wider: int) -> nn.Module:
            plain = nn.Conv2d(channels, wider, 3, padding=zeros, bias=bias)
            return SeparableConv2d(channels, wider, zeros) if separable else plain

        pads = {"reflect": nn.ReflectionPad2d(1), "replicate": nn.ReplicationPad2d(1)}
        border: list[nn.Module] = [pads[pad]] if pad in pads else []
        layers = [*border, convolution(width, inner), norm(inner), nn.ReLU(True)]
        layers += [nn.Dropout(0.5)] if dropout else []
        layers += [*border, convolution(inner, width), norm(width)]
        self.name = name
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.get_submodule(self.name)(x)  # type: ignore[no-any-return]


class SeparableConv2d(nn.Module):
    """GAN-Compression: depthwise, InstanceNorm, pointwise; always with bias."""

    def __init__(self, channels: int, wider: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=padding, groups=channels),
            nn.InstanceNorm2d(channels),
            nn.Conv2d(channels, wider, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Antialiased-CNNs with a filter of 3, as CUT takes it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (torch.outer(row, row) / 16).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])  # type: ignore[arg-type]


class Upsample(nn.Module):
    """Antialiased-CNNs with a filter of 4, as CUT takes it: pad, transposed convolution, crop."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("filt", (torch.outer(row, row) / 16).expand(channels, 1, 4, 4).clone())

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), "replicate")
        wide = functional.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])  # type: ignore[arg-type]
        return wide[:, :, 1:, 1:][:, :, :-1, :-1]


class Resnet(nn.Module):
    """The ResNet generator in every published variant."""

    def __init__(
        self,
        *,
        down: tuple[int, int, int] = (6, 12, 24),
        inner: tuple[int, ...] = (24, 24),
        up: tuple[int, int] = (12, 6),
        inputs: int = 3,
        outputs: int = 3,
        norm: Norm = nn.InstanceNorm2d,
        bias: bool = True,
        dropout: bool = False,
        separable: bool = False,
        antialias: bool = False,
        antialias_up: bool = False,
        resize: bool = False,
        pad: str = "reflect",
        name: str = "conv_block",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, down[0], 7, bias=bias), norm(down[0])]
        layers += [nn.ReLU(True)]
        for channels, wider in [(down[0], down[1]), (down[1], down[2])]:
            layers += [nn.Conv2d(channels, wider, 3, 1 if antialias else 2, 1, bias=bias), norm(wider), nn.ReLU(True)]
            layers += [Downsample(wider)] if antialias else []
        for width in inner:
            layers += [Block(down[2], width, norm, bias=bias, dropout=dropout, separable=separable, pad=pad, name=name)]
        for channels, narrower in [(down[2], up[0]), (up[0], up[1])]:
            if antialias_up:
                layers += [Upsample(channels), nn.Conv2d(channels, narrower, 3, 1, 1, bias=bias)]
            elif resize:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, narrower, 3, 1, 1, bias=bias)]
            else:
                layers += [nn.ConvTranspose2d(channels, narrower, 3, 2, 1, output_padding=1, bias=bias)]
            layers += [norm(narrower), nn.ReLU(True)]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(up[1], outputs, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


class UnetBlock(nn.Module):
    """The reference's U-Net level, built from the inside outwards."""

    def __init__(
        self,
        outer: int,
        inner: int,
        inside: nn.Module | None,
        norm: Norm,
        *,
        bias: bool,
        dropout: bool = False,
        inputs: int | None = None,
    ) -> None:
        super().__init__()
        self.outermost = inputs is not None
        down = nn.Conv2d(inputs or outer, inner, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(2 * inner if inside else inner, outer, 4, 2, 1, bias=bias or self.outermost)
        if self.outermost:
            assert inside is not None
            layers = [down, inside, nn.ReLU(True), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner), inside, nn.ReLU(True), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y if self.outermost else torch.cat([x, y], 1)


class Unet(nn.Module):
    """unet_128 has 7 levels, unet_256 has 8."""

    def __init__(
        self,
        levels: int = 7,
        width: int = 4,
        *,
        norm: Norm = nn.InstanceNorm2d,
        bias: bool = True,
        dropout: bool = False,
        inputs: int = 3,
        outputs: int = 3,
    ) -> None:
        super().__init__()
        block = UnetBlock(8 * width, 8 * width, None, norm, bias=bias)
        for _ in range(levels - 5):
            block = UnetBlock(8 * width, 8 * width, block, norm, bias=bias, dropout=dropout)
        for times in (4, 2, 1):
            block = UnetBlock(times * width, 2 * times * width, block, norm, bias=bias)
        self.model = UnetBlock(outputs, width, block, norm, bias=bias, inputs=inputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]


def with_random_weights(generator: nn.Module) -> nn.Module:
    """`generator` in eval mode with weights large enough that a wrong layer shows, norms and statistics too."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in generator.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=random)
            elif value.is_floating_point() and not name.endswith("filt"):
                value.normal_(1.0 if value.ndim == 1 and name.endswith("weight") else 0.0, 0.1, generator=random)
    return generator.eval()


def state(generator: nn.Module) -> dict[str, Tensor]:
    """What a file holds of it once its whole numbers are left out."""
    return {name: value.clone() for name, value in generator.state_dict().items() if value.is_floating_point()}


def picture(height: int = 64, width: int = 72, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


AFFINE = partial(nn.InstanceNorm2d, affine=True)
BatchResnet = partial(Resnet, norm=nn.BatchNorm2d, bias=False)
CASES: dict[str, tuple[nn.Module, str]] = {  # what was published, and what is said of its weights
    "reference": (Resnet(inner=(24,) * 6), "ResNet, 6 blocks, 6 channels, instance norm$"),
    "one block": (Resnet(inner=(24,)), "ResNet, 1 block, 6 channels, instance norm$"),
    "dropout": (Resnet(dropout=True), "ResNet, 2 blocks, 6 channels, instance norm, dropout left out$"),
    "affine": (Resnet(norm=AFFINE), "ResNet, 2 blocks, 6 channels, instance norm with weights$"),
    "batch norm": (BatchResnet(), "ResNet, 2 blocks, 6 channels, batch norm with its running statistics, folded"),
    "batch norm, dropout": (BatchResnet(dropout=True), "ResNet, .*, dropout left out$"),
    "block, resize": (
        Resnet(resize=True, name="block"),
        "ResNet, 2 blocks, 6 channels, nearest-neighbour upsampling, instance",
    ),
    "cut": (
        Resnet(antialias=True, antialias_up=True),
        "CUT ResNet, .* anti-aliased downsampling, anti-aliased upsampling",
    ),
    "cut, no_antialias": (
        Resnet(antialias_up=True),
        "CUT ResNet, 2 blocks, 6 channels, anti-aliased upsampling, instance",
    ),
    "cut, no_antialias_up": (
        Resnet(antialias=True),
        "CUT ResNet, 2 blocks, 6 channels, anti-aliased downsampling, instance",
    ),
    "cut, batch norm": (BatchResnet(antialias=True, antialias_up=True, dropout=True), "CUT ResNet, .* batch norm"),
    "mobile": (Resnet(separable=True, dropout=True), "separable ResNet, 2 blocks, 6 channels, instance norm, dropout"),
    "mobile, batch norm": (BatchResnet(separable=True, dropout=True, inner=(8, 24)), "separable ResNet, .* batch norm"),
    "sub-mobile": (
        Resnet(separable=True, dropout=True, down=(5, 8, 16), inner=(16, 7, 12), up=(9, 7)),
        "separable ResNet, 3 blocks, 5 and 7 channels",
    ),
    "zero": (Resnet(pad="zero"), "ResNet, 2 blocks, 6 channels, zero padding, instance norm$"),
    "zero, dropout": (Resnet(pad="zero", dropout=True), "ResNet, .* zero padding, instance norm, dropout left out$"),
    "zero, batch norm": (BatchResnet(pad="zero", dropout=True), "ResNet, .* zero padding, batch norm"),
    "mobile, zero": (Resnet(pad="zero", separable=True), "separable ResNet, 2 blocks, 6 channels, zero padding"),
    "unet_128": (Unet(7), "U-Net, 7 levels, 4 channels, instance norm$"),
    "unet_256": (Unet(8, dropout=True), "U-Net, 8 levels, 4 channels, instance norm$"),
    "compact": (
        new_generator(GeneratorConfig(kind="compact", width=6, blocks=2, dropout=True)),
        "compact generator, 2 blocks, 6 channels, instance norm, dropout left out$",
    ),
    "unet, batch norm": (Unet(5, norm=nn.BatchNorm2d, bias=False), "U-Net, 5 levels, 4 channels, batch norm"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_layout_is_recognised_and_gives_the_original_s_picture(case: str) -> None:
    original, said = CASES[case]
    with_random_weights(original)
    levels = len([name for name, _ in original.named_modules() if isinstance(_, UnetBlock)])
    batch = picture(2**levels, 2**levels * 2) if levels else picture()

    found = recognise(state(original), FILE)

    with torch.inference_mode():
        expected = original(batch)
        torch.testing.assert_close(found.generator(batch), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1, "the original's picture is grey, so nothing was compared"
    assert re.match(said, found.description)


@pytest.mark.parametrize(
    "original", [Resnet(inputs=1, outputs=1), Unet(5, inputs=1, outputs=1)], ids=["resnet", "unet"]
)
def test_a_generator_of_grey_pictures_translates_rgb_by_its_luma(original: nn.Module) -> None:
    with_random_weights(original)
    batch = picture()[:, :, :32, :64]
    grey = (batch * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)

    found = recognise(state(original), FILE)

    with torch.inference_mode():
        translated = PictureGenerator(found.generator).translated(batch)
        torch.testing.assert_close(translated, original(grey).expand(2, 3, 32, 64), rtol=0, atol=1e-5)
    assert found.description.endswith(", 1 -> 1 colour channels")


def test_statistics_of_a_norm_without_weights_are_stale_and_dropped() -> None:
    original = with_random_weights(Resnet())
    stale = {f"model.{layer}.running_{kind}": torch.ones(6) for layer in (2, 5) for kind in ("mean", "var")}

    found = recognise({**state(original), **stale}, FILE)

    with torch.inference_mode():
        torch.testing.assert_close(found.generator(picture()), original(picture()), rtol=0, atol=1e-5)
    assert "4 stale statistics dropped" in found.description


def test_a_plain_resnet_has_the_names_of_ours() -> None:
    plain = Resnet(down=(4, 8, 16), inner=(16, 16), up=(8, 4), dropout=True)

    found = recognise(state(with_random_weights(plain)), FILE)

    ours = ResnetGenerator(GeneratorConfig(width=4, blocks=2))
    assert ours.load_state_dict(found.generator.state_dict()).missing_keys == []


def test_a_batch_norm_can_be_taken_from_each_picture_instead() -> None:
    """What the reference's test.py shows, which leaves the network in training mode, for one picture at a time."""
    original = with_random_weights(Resnet(norm=nn.BatchNorm2d, bias=False)).train()

    found = recognise(state(original), FILE, norm="instance")

    with torch.inference_mode():
        torch.testing.assert_close(found.generator(picture()[:1]), original(picture()[:1]), rtol=0, atol=1e-5)


def test_convolutions_without_bias_leave_the_norm_open() -> None:
    without_norm = with_random_weights(Resnet(norm=lambda channels: nn.Identity(), bias=False))
    with_norm = with_random_weights(Resnet(bias=False))
    weights = state(without_norm)

    with pytest.raises(CheckpointError, match=r"without bias .* import file\.pth --norm instance` or `--norm none`"):
        recognise(weights, FILE)

    none, instance = (recognise(weights, FILE, norm=norm).generator for norm in ("none", "instance"))
    with torch.inference_mode():
        torch.testing.assert_close(none(picture()), without_norm(picture()))
        torch.testing.assert_close(instance(picture()), with_norm(picture()), rtol=0, atol=1e-5)


def test_replicate_padding_leaves_no_trace_in_the_weights_and_so_is_chosen() -> None:
    original = with_random_weights(Resnet(pad="replicate"))
    expected = original(picture())

    chosen = recognise(state(original), FILE, padding="replicate")

    assert "replicate padding" in chosen.description
    torch.testing.assert_close(chosen.generator(picture()), expected, rtol=0, atol=1e-5)
    assert (recognise(state(original), FILE).generator(picture()) - expected).abs().max() > 0.1


@pytest.mark.parametrize("original", [Resnet(pad="zero"), Unet(5)], ids=["zero", "unet"])
def test_a_padding_that_the_weights_contradict_is_refused(original: nn.Module) -> None:
    with pytest.raises(CheckpointError, match="its padding is known; leave out --padding replicate"):
        recognise(state(original), FILE, padding="replicate")


def test_a_grey_resnet_of_pytorch_gan_is_refused() -> None:
    """It pads by its number of channels: by 1 px where its 7x7 kernels need 3."""
    weights = state(Resnet(inputs=1, outputs=1, resize=True, name="block"))

    with pytest.raises(CheckpointError, match="PyTorch-GAN, which pads pictures of 1 channel by 1 px"):
        recognise(weights, FILE)


@pytest.mark.parametrize(
    ("norm", "sentence"), [("batch", "no norms with weights and running"), ("none", "norms with weights")]
)
def test_a_norm_that_the_weights_contradict_is_refused(norm: NormChoice, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        recognise(state(Resnet(norm=AFFINE)), FILE, norm=norm)


@pytest.mark.parametrize("case", ["affine", "cut", "sub-mobile", "unet_128"])
def test_half_precision_keeps_the_picture(case: str) -> None:
    original = with_random_weights(CASES[case][0])
    batch = picture(128, 128)

    found = half_convolutions(recognise(state(original), FILE).generator)(batch.half())

    assert found.dtype == torch.float32
    assert 10 * torch.log10(4 / (found - original(batch)).square().mean()).item() > 55  # dB, signal range 2


@pytest.mark.parametrize(
    ("case", "shape"), [("cut", (1, 40, 52, 3)), ("sub-mobile", (1, 40, 52, 3)), ("unet, batch norm", (1, 96, 64, 3))]
)
def test_the_graph_gives_the_original_s_picture(
    case: str, shape: tuple[int, int, int, int], tmp_path: Path, rng: np.random.Generator
) -> None:
    original = with_random_weights(CASES[case][0])
    torch.save(original.state_dict(), tmp_path / "G.pth")
    images = rng.integers(0, 256, shape, dtype=np.uint8)

    bundle = export_checkpoint(tmp_path / "G.pth", tmp_path / "models" / "G", ExportConfig(compare=1))

    assert bundle.manifest.multiple == (32 if "unet" in case else 4)
    expected = translate_with(original)(images)
    assert np.abs(OnnxRuntimeBackend(bundle).run(images).astype(int) - expected.astype(int)).max() <= 1
    translated = Translator.load(bundle.folder, engine="onnxruntime", fit="native")(images[0, :35, :41])
    assert translated.shape == (35, 41, 3)
