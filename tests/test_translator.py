from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from cyclegan_edge import EngineName, Fit, Translator, write_image
from cyclegan_edge.backends.onnxruntime import OnnxRuntimeBackend
from cyclegan_edge.bundle import read_bundle, write_manifest
from cyclegan_edge.contract import MIN_SIDE, Translate
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ImageError
from cyclegan_edge.files import sha256
from cyclegan_edge.geometry import fitted_shape
from cyclegan_edge.metrics import psnr, ssim
from cyclegan_edge.preprocess import resize
from cyclegan_edge.scenes import render

FITS: list[Fit] = ["aspect", "stretch", "native"]
SHAPES = [(1, 1), (3, 5), (7, 300), (64, 64), (101, 64), (480, 640)]


class Negative:
    """A backend that inverts colours and remembers the shapes it was given."""

    name, device = "negative 1.0", "nowhere"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        self.shapes.append(images.shape)
        return 255 - images


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fit", FITS)
def test_the_result_has_the_size_of_the_picture(fit: Fit, shape: tuple[int, int], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    backend = Negative()

    translated = Translator(backend, size=64, fit=fit)(image)

    assert translated.shape == image.shape
    assert translated.dtype == np.uint8
    ((batch, height, width, channels),) = backend.shapes
    assert (batch, channels) == (1, 3)
    assert height % 4 == width % 4 == 0
    assert min(height, width) >= MIN_SIDE


@pytest.mark.parametrize("shape", SHAPES)
def test_native_changes_no_pixel_but_by_the_model(shape: tuple[int, int], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)

    translated = Translator(Negative(), fit="native")(image)

    np.testing.assert_array_equal(translated, 255 - image)


@pytest.mark.parametrize("fit", FITS)
def test_many_pictures_are_translated_as_one_by_one_and_as_they_are_asked_for(
    fit: Fit, rng: np.random.Generator
) -> None:
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    backend = Negative()
    translator = Translator(backend, size=64, fit=fit)

    results = translator.many(iter(images))
    first = next(results)

    assert len(backend.shapes) == 1, "it runs one at a time, so nothing is read ahead"
    for image, result in zip(images, [first, *results], strict=True):
        np.testing.assert_array_equal(result, translator(image))


def test_native_pads_by_mirroring() -> None:
    image = np.zeros((8, 6, 3), np.uint8)
    image[0, :, 0] = [10, 20, 30, 40, 50, 60]

    batch = Translator(Negative(), fit="native").prepare(image)

    assert batch[0, 0, :, 0].tolist() == [10, 20, 30, 40, 50, 60, 50, 40]


def test_aspect_resizes_there_and_back(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (90, 60, 3), dtype=np.uint8)

    translated = Translator(Negative(), size=40)(image)

    np.testing.assert_array_equal(translated, resize(255 - resize(image, (60, 40)), (90, 60)))


def test_a_picture_of_the_right_size_is_not_resized(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)

    np.testing.assert_array_equal(Translator(Negative(), size=64)(image), 255 - image)


@pytest.mark.parametrize(
    "view", ["transposed", "mirrored", "cropped", "reversed", "turned", "upside down", "fortran", "every other", "one"]
)
@pytest.mark.parametrize("fit", FITS)
def test_views_give_the_same_as_copies(fit: Fit, view: str, rng: np.random.Generator) -> None:
    whole = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = {
        "transposed": whole.transpose(1, 0, 2),
        "mirrored": whole[:, ::-1],
        "cropped": whole[5:58, 3:60],
        "reversed": whole[..., ::-1],
        "turned": np.rot90(whole),
        "upside down": whole[::-1],
        "fortran": np.asfortranarray(whole[:40]),
        "every other": whole[::2, ::2],
        "one": np.broadcast_to(whole[:1], whole.shape),
    }[view]
    translator = Translator(Negative(), size=64, fit=fit)

    np.testing.assert_array_equal(translator(image), translator(image.copy()))


@pytest.mark.parametrize(
    ("height", "width", "fit", "size", "expected"),
    [
        (480, 640, "aspect", 256, (256, 340)),  # 341.3 to the nearest multiple of 4
        (640, 480, "aspect", 256, (340, 256)),
        (1, 1, "aspect", 256, (256, 256)),
        (480, 640, "stretch", 256, (256, 256)),
        (480, 641, "native", 256, (480, 644)),
        (1, 1, "native", 256, (8, 8)),
    ],
)
def test_fitted_shapes(height: int, width: int, fit: Fit, size: int, expected: tuple[int, int]) -> None:
    assert fitted_shape(height, width, fit=fit, size=size) == expected


@pytest.mark.parametrize(
    ("height", "width", "fit", "expected"),
    [
        (480, 640, "aspect", (256, 384)),  # 341.3 to the nearest multiple of 128
        (480, 640, "stretch", (256, 256)),
        (480, 640, "native", (512, 640)),
        (1, 1, "native", (128, 128)),
    ],
)
def test_fitted_shapes_of_a_u_net_are_multiples_of_its_own(
    height: int, width: int, fit: Fit, expected: tuple[int, int]
) -> None:
    assert fitted_shape(height, width, fit=fit, size=256, multiple=128) == expected


@pytest.mark.parametrize(
    ("height", "width", "fit", "sentence"),
    [
        (1, 10_000, "aspect", r"10000x1 px would be translated at 2560000x256 px .* smaller size or the fit 'stretch'"),
        (5000, 4000, "native", "4000x5000 px would be translated at 4000x5000 px .* choose the fit 'aspect'"),
    ],
)
def test_an_enormous_batch_is_refused(height: int, width: int, fit: Fit, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        fitted_shape(height, width, fit=fit, size=256)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), "image is float32, expected a uint8 array"),
        (np.zeros((8, 8), np.uint8), r"shape \(8, 8\), expected \(height, width, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\), expected .* with no empty side"),
        (1.5, "image is float, expected a uint8 array"),
    ],
)
def test_what_is_no_rgb_picture_is_refused(image: np.ndarray, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        Translator(Negative())(image)


@pytest.mark.parametrize(("size", "instead"), [(250, 248), (0, 8), (-4, 8), (6, 8)])
def test_sizes_that_cannot_be_halved_twice_are_refused(size: int, instead: int) -> None:
    with pytest.raises(ConfigError, match=f"size is {size}, .* try {instead}"):
        Translator(Negative(), size=size)


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="fit is 'cover', expected 'aspect', 'stretch' or 'native'"):
        Translator(Negative(), fit="cover")  # type: ignore[arg-type]


def test_load_takes_the_size_of_the_model(
    tiny_bundle: Path, tiny_translated: Translate, rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)

    translator = Translator.load(tiny_bundle, engine="onnxruntime", fit="native")

    assert translator.size == 32
    assert translator.bundle is not None
    assert translator.bundle.manifest.name == "negative"
    assert translator.name.startswith("onnxruntime ")
    assert translator.device.startswith("CPU")
    np.testing.assert_array_equal(translator(image), tiny_translated(image[None])[0])


def test_load_takes_the_multiple_of_the_model(
    tiny_bundle: Path, tiny_translated: Translate, rng: np.random.Generator
) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    write_manifest(tiny_bundle, replace(manifest, multiple=128, size=128))
    image = rng.integers(0, 256, (50, 170, 3), dtype=np.uint8)

    translator = Translator.load(tiny_bundle, fit="native")

    assert translator.prepare(image).shape == (1, 128, 256, 3)
    np.testing.assert_array_equal(translator(image), tiny_translated(image[None])[0])
    with pytest.raises(ConfigError, match=r"size is 100, .* multiple of 128 and at least 128; try 128"):
        Translator.load(tiny_bundle, size=100)


def test_load_refuses_before_opening_an_engine(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no exported model"):
        Translator.load(tmp_path)
    with pytest.raises(ConfigError, match="size is 33"):
        Translator.load(str(tiny_bundle), size=33)


def test_an_engine_that_fails_is_an_engine_error(tiny_bundle: Path) -> None:
    bundle, path = read_bundle(tiny_bundle), tiny_bundle / "generator-fp32.onnx"
    model = onnx.load(path)
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(np.zeros((1, 16, 1, 1), np.float32), first.name))
    onnx.save(model, path)
    fails = bundle.with_artifact(replace(bundle.manifest.artifacts[0], sha256=sha256(path)))
    translator = Translator(OnnxRuntimeBackend(fails))

    with pytest.raises(EngineError, match=r"ONNX Runtime could not translate a batch of shape \(1, 8, 8, 3\)"):
        translator.run(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fit", FITS)
def test_a_bgr_picture_gives_the_same_as_an_rgb_one(fit: Fit, shape: tuple[int, int], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    bgr = np.ascontiguousarray(image[..., ::-1])
    translator = Translator(Negative(), size=64, fit=fit)

    batch = translator.prepare(bgr, bgr=True)
    restored = translator.restore(translator.run(batch), *shape, bgr=True)

    np.testing.assert_array_equal(batch, translator.prepare(image))
    np.testing.assert_array_equal(restored[..., ::-1], translator(image))
    np.testing.assert_array_equal(next(translator.many([bgr], bgr=True)), restored)


class Padding(Negative):
    """A backend that leaves a trace of zero padding in the first rows and columns, as strided convolutions do."""

    def run(self, images: np.ndarray) -> np.ndarray:
        translated = super().run(images)
        translated[:, :2] = 0
        translated[:, :, :2] = 0
        return translated


@pytest.mark.parametrize("fit", ["aspect", "stretch"])
def test_a_mirrored_margin_hides_what_padding_does_at_the_edges(fit: Fit) -> None:
    image = np.full((90, 120, 3), 100, np.uint8)
    plain, mirrored = Padding(), Padding()

    before = Translator(plain, size=64, fit=fit)(image)
    after = Translator(mirrored, size=64, fit=fit, mirrored=True)(image)

    assert (before != 155).any()
    assert (after == 155).all()
    assert plain.shapes == mirrored.shapes, "the engine has no more to do"


def test_a_margin_is_left_out_where_every_pixel_counts(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)

    for options in ({"fit": "native"}, {"size": 32}):
        translator = Translator(Negative(), mirrored=True, **options)
        np.testing.assert_array_equal(translator(image), 255 - image)


def test_pictures_come_in_every_usual_shape(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "summer.png"
    write_image(str(path), image)
    translator = Translator(Negative(), fit="native")
    expected = translator(image)

    assert np.array_equal(translator(path), expected)
    assert np.array_equal(translator(str(path), bgr=True), expected[..., ::-1])
    assert np.array_equal(translator(np.stack([image, image])), np.stack([expected, expected]))
    assert np.array_equal(translator(image[..., ::-1], bgr=True), expected[..., ::-1])
    from_list = translator([image, path])
    assert isinstance(from_list, list)
    assert np.array_equal(np.array(from_list), [expected, expected])
    frames = translator(iter([image, image]))
    assert np.array_equal(next(frames), expected)
    made = translator(Image.open(path).convert("RGBA"))
    assert isinstance(made, Image.Image)
    assert np.array_equal(np.asarray(made), expected)


def test_a_closed_translator_says_so(tiny_bundle: Path) -> None:
    with Translator.load(tiny_bundle, engine="onnxruntime") as translator:
        assert "negative" in repr(translator)
        assert "onnxruntime" in repr(translator)

    with pytest.raises(EngineError, match=r"onnxruntime .* was closed; load the model again"):
        translator(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize("precision", ["int4", "FP16"])
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_an_unknown_precision_is_refused(engine: EngineName, precision: Any, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=f"precision is {precision!r}, expected one of 'any', 'fp32'"):
        Translator.load(tiny_bundle, engine=engine, precision=precision)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_eight_threads_share_a_translator(engine: EngineName, tiny_bundle: Path, rng: np.random.Generator) -> None:
    pytest.importorskip(engine)
    translator = Translator.load(tiny_bundle, engine=engine, fit="native")
    images = [rng.integers(0, 256, (32 + 4 * (number % 3), 40, 3), dtype=np.uint8) for number in range(96)]
    alone = [translator(image) for image in images]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(translator, images))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_model_that_comes_with_the_package_brings_summer_nearer_to_its_winter() -> None:
    translator = Translator.load("landscapes", engine="onnxruntime")
    worlds = 3, 14, 15  # none that it was trained on
    summers = [render(world, "summer", size=(360, 640)) for world in worlds]
    winters = [render(world, "winter", size=(360, 640)) for world in worlds]

    translated = [translator(summer) for summer in summers]

    for metric in (psnr, ssim):
        before = np.mean([metric(summer, winter) for summer, winter in zip(summers, winters, strict=True)])
        after = np.mean([metric(made, winter) for made, winter in zip(translated, winters, strict=True)])
        assert after > before
