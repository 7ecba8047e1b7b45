"""The networks: sizes of the paper, keys of the reference, and an independent rebuild from the paper's text."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan_edge.train.networks import (
    DiscriminatorConfig,
    GeneratorConfig,
    InitMethod,
    InstanceNorm,
    PatchDiscriminator,
    ResnetGenerator,
    init_weights,
    new_generator,
)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("blocks", "expected"), [(9, 11_378_179), (6, 7_837_699)])
def test_generator_has_the_size_of_the_reference(blocks: int, expected: int) -> None:
    assert parameters(ResnetGenerator(GeneratorConfig(blocks=blocks))) == expected


def test_discriminator_has_the_size_of_the_reference() -> None:
    assert parameters(PatchDiscriminator(DiscriminatorConfig())) == 2_764_737


def test_generator_keys_are_those_of_the_reference() -> None:
    keys = {
        key.removesuffix(".weight") for key in ResnetGenerator(GeneratorConfig()).state_dict() if key.endswith("weight")
    }

    blocks = {f"model.{block}.conv_block.{layer}" for block in range(10, 19) for layer in (1, 5)}
    assert keys == {"model.1", "model.4", "model.7", "model.19", "model.22", "model.26"} | blocks


def test_discriminator_keys_are_those_of_the_reference() -> None:
    keys = {
        key.removesuffix(".weight")
        for key in PatchDiscriminator(DiscriminatorConfig()).state_dict()
        if key.endswith("weight")
    }

    assert keys == {f"model.{layer}" for layer in (0, 2, 5, 8, 11)}


def test_a_256_px_picture_gets_30_by_30_scores_and_each_sees_70_px() -> None:
    discriminator = PatchDiscriminator(DiscriminatorConfig(width=4))
    picture = torch.zeros(1, 3, 256, 256, requires_grad=True)

    scores = linear_part(discriminator)(picture)
    scores[0, 0, 15, 15].backward()

    assert scores.shape == (1, 1, 30, 30)
    assert picture.grad is not None
    touched = picture.grad[0].abs().sum(0) > 0
    assert int(touched.any(0).sum()) == int(touched.any(1).sum()) == 70


def linear_part(discriminator: PatchDiscriminator) -> nn.Sequential:
    """Without the norms, which look at the whole picture, and with weights that cannot cancel."""
    convolutions = [layer for layer in discriminator.model if isinstance(layer, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.ones_(convolution.weight)
    return nn.Sequential(*convolutions)


def test_initial_weights_are_normal_with_deviation_0_02_and_biases_are_0() -> None:
    generator = ResnetGenerator(GeneratorConfig(blocks=1))

    init_weights(generator, torch.Generator().manual_seed(0))

    weights = torch.cat([value.flatten() for key, value in generator.state_dict().items() if key.endswith("weight")])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert weights.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert all(not value.any() for key, value in generator.state_dict().items() if key.endswith("bias"))


def test_generator_computes_what_the_paper_describes() -> None:
    generator = ResnetGenerator(GeneratorConfig(width=8, blocks=2)).eval()
    picture = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1

    ours = generator(picture)

    torch.testing.assert_close(
        ours, generator_from_the_paper(generator.state_dict(), picture, blocks=2), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("kind", "levels", "expected"), [("unet_128", 7, 41_825_667), ("unet_256", 8, 54_409_603)])
def test_u_nets_have_the_keys_of_the_reference_and_its_size_with_instance_norm(
    kind: str, levels: int, expected: int
) -> None:
    config = GeneratorConfig(kind=kind)  # type: ignore[arg-type]

    generator = new_generator(config)

    assert parameters(generator) == expected
    keys = set(generator.state_dict())
    assert {"model.model.0.weight", "model.model.3.bias", "model.model.1.model.1.weight"} <= keys
    innermost = "model.model" + ".1.model" + ".3.model" * (levels - 2)
    assert {f"{innermost}.1.weight", f"{innermost}.3.weight"} <= keys
    assert config.multiple == 2**levels


def test_a_u_net_computes_what_the_reference_computes() -> None:
    """Its activations work in place, so what is handed across is activated."""
    generator = new_generator(GeneratorConfig(kind="unet_128", width=2)).eval()
    weights = generator.state_dict()
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def level(x: Tensor, key: str, depth: int) -> Tensor:
        x = functional.leaky_relu(x, 0.2)
        inner = functional.conv2d(x, weights[f"{key}.1.weight"], weights[f"{key}.1.bias"], stride=2, padding=1)
        up = "3"
        if depth:
            inner, up = level(functional.instance_norm(inner), f"{key}.3.model", depth - 1), "5"
        inner = inner.relu()
        inner = functional.conv_transpose2d(
            inner, weights[f"{key}.{up}.weight"], weights[f"{key}.{up}.bias"], stride=2, padding=1
        )
        return torch.cat((x, functional.instance_norm(inner)), 1)

    x = functional.conv2d(picture, weights["model.model.0.weight"], weights["model.model.0.bias"], stride=2, padding=1)
    x = level(x, "model.model.1.model", 5).relu()
    expected = functional.conv_transpose2d(
        x, weights["model.model.3.weight"], weights["model.model.3.bias"], stride=2, padding=1
    ).tanh()

    torch.testing.assert_close(generator(picture), expected, rtol=0, atol=1e-5)


def test_resize_upsampling_doubles_without_a_transposed_convolution() -> None:
    generator = new_generator(GeneratorConfig(width=4, blocks=1, upsampling="resize"))

    assert generator(torch.zeros(1, 3, 32, 36)).shape == (1, 3, 32, 36)
    assert not any(isinstance(module, nn.ConvTranspose2d) for module in generator.modules())


def test_the_compact_generator_computes_what_it_describes() -> None:
    generator = new_generator(GeneratorConfig(kind="compact", width=8, blocks=1)).eval()
    weights, picture = generator.state_dict(), torch.rand(2, 3, 16, 24) * 2 - 1

    def convolved(x: torch.Tensor, name: str, *, stride: int = 1, padding: int) -> torch.Tensor:
        return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride, padding=padding)

    x = functional.instance_norm(convolved(picture, "body.0", stride=4, padding=4)).relu()
    inner = functional.instance_norm(convolved(x, "body.3.conv_block.0", padding=1)).relu()
    x = x + functional.instance_norm(convolved(inner, "body.3.conv_block.3", padding=1))
    x = functional.instance_norm(functional.pixel_shuffle(convolved(x, "body.4", padding=1), 2)).relu()
    detail = convolved(picture, "detail.0", stride=2, padding=2).relu()
    expected = functional.pixel_shuffle(convolved(torch.cat((x, detail), 1), "head.0", padding=2), 2).tanh()

    assert x.shape == (2, 4, 8, 12)
    assert detail.shape == (2, 2, 8, 12)
    assert expected.std() > 0.1
    torch.testing.assert_close(generator(picture), expected, rtol=0, atol=1e-5)


def test_the_compact_generator_starts_without_a_checkerboard() -> None:
    generator = new_generator(GeneratorConfig(kind="compact", width=8, blocks=1))
    init_weights(generator, torch.Generator().manual_seed(0))

    with torch.inference_mode():
        picture = generator(torch.rand(1, 3, 32, 32))

    inside = picture[:, :, 8:-8, 8:-8]
    assert torch.equal(inside[..., ::2, ::2], inside[..., 1::2, 1::2]), "each group of four pixels has one colour"
    assert inside.std() > 0


def test_dropout_shifts_the_second_convolution_as_in_the_reference() -> None:
    keys = new_generator(GeneratorConfig(width=4, blocks=1, dropout=True)).state_dict()

    assert {"model.10.conv_block.1.weight", "model.10.conv_block.6.weight"} <= keys.keys()


@pytest.mark.parametrize(
    ("method", "gain", "deviation"),
    [
        ("normal", 0.02, 0.02),
        ("xavier", 0.02, 0.02 * (2 / (128 * 9 + 128 * 9)) ** 0.5),
    ],
)
def test_each_init_method_has_the_deviation_of_its_paper(method: InitMethod, gain: float, deviation: float) -> None:
    network = nn.Conv2d(128, 128, 3)

    init_weights(network, torch.Generator().manual_seed(0), method, gain)

    assert network.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert not network.bias.any()  # type: ignore[union-attr]


def test_the_decomposed_norm_equals_torchs() -> None:
    norm, decomposed = InstanceNorm(5), InstanceNorm(5)
    decomposed.decomposed = True
    x = torch.randn(2, 5, 9, 7, generator=torch.Generator().manual_seed(0)) * 40 + 300

    torch.testing.assert_close(decomposed(x), norm(x), rtol=1e-4, atol=1e-4)
    assert decomposed(x.bfloat16()).dtype == norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(decomposed(x.bfloat16()), norm(x.bfloat16()), rtol=0, atol=0.02)


def generator_from_the_paper(weights: dict[str, Tensor], x: Tensor, *, blocks: int) -> Tensor:
    """c7s1-k, d2k, d4k, R4k ..., u2k, uk, c7s1-3 in plain functions of a state dict."""

    def wb(key: str) -> tuple[Tensor, Tensor]:
        return weights[f"model.{key}.weight"], weights[f"model.{key}.bias"]

    def norm(x: Tensor) -> Tensor:
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    def reflected(x: Tensor, border: int, key: str) -> Tensor:
        return functional.conv2d(functional.pad(x, (border,) * 4, mode="reflect"), *wb(key))

    x = norm(reflected(x, 3, "1")).relu()
    for key in ("4", "7"):
        x = norm(functional.conv2d(x, *wb(key), stride=2, padding=1)).relu()
    for block in range(10, 10 + blocks):
        inner = norm(reflected(x, 1, f"{block}.conv_block.1")).relu()
        x = x + norm(reflected(inner, 1, f"{block}.conv_block.5"))
    for key in (f"{10 + blocks}", f"{13 + blocks}"):
        x = norm(functional.conv_transpose2d(x, *wb(key), stride=2, padding=1, output_padding=1)).relu()
    return reflected(x, 3, f"{17 + blocks}").tanh()
