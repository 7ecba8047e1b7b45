"""How far translated pictures are from real ones as a whole: FID and KID, by torch-fidelity.

    picture    (S, S, 3)  uint8, RGB, 0..255
    features   (N, D)     float32, one row per picture

FID   Frechet distance of the two sets of features as Gaussians (Heusel et al. 2017, arXiv:1706.08500)
KID   squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401)

The features are those of torch-fidelity's Inception, whose weights are a file that is never fetched from here, and read
only when it is the published one; those of EfficientNet-Lite2, whose weights are a package; or of any TorchScript file.
Such a file runs no Python, but it is a program: it may use every operator of torch, and some of them write files. Open
only what you trust.
"""

import hashlib
import io
import itertools
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from cyclegan_edge.contract import Batch, Picture, to_signal
from cyclegan_edge.errors import FeatureError
from cyclegan_edge.files import sha256
from cyclegan_edge.train.evaluate.picture_generator import undisturbed
from cyclegan_edge.train.imagenet import POOLED, efficientnet, weights_of

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
PACKAGED: Final = "efficientnet-lite2"
MAX_BYTES = 1 << 30  # of a TorchScript file, packed and unpacked; Inception's has 91 MiB
MAX_DIMENSION = 4096  # features per picture: FID takes the eigenvalues of a D x D matrix
FEW = 10_000  # pictures, below which FID's authors advise against comparing it
KID_SUBSETS, KID_SUBSET = 100, 1000  # how many subsets and the most pictures in one: torch-fidelity's own
BATCH = 16  # pictures that go through the network at once

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureNetwork:
    """A network that turns uint8 (N, S, S, 3) pictures into float32 (N, D) features."""

    name: str
    sha256: str  # of the file with its weights
    dimension: int  # D
    takes: str  # how the network gets the values: "uint8 0..255" or "float32 0..1"
    run: Callable[[Batch], Features]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """How far translated pictures are from real ones. Smaller is better, 0 is the same distribution."""

    fid: float
    kid: float  # mean over the subsets; unbiased, so a little below 0 for the same distribution
    kid_deviation: float  # standard deviation over the subsets
    kid_subset: int  # pictures of each side in a subset
    translated: int  # pictures
    real: int  # pictures
    caution: str  # what the number of pictures does to these figures; empty when they are enough


@dataclass(frozen=True, slots=True)
class ReferenceFeatures:
    """The features of the real pictures, computed once, and the network they are from."""

    network: FeatureNetwork
    real: Features  # (N, D)

    def distance_to(self, pictures: Iterable[Picture]) -> Distance:
        """The distance of `pictures`, which are taken one by one. Raises FeatureError."""
        return distance(self.real, features_of(self.network, pictures))


def open_network(path: Path | None, *, size: int, device: torch.device) -> FeatureNetwork:
    """Inception with None, "efficientnet-lite2", or the TorchScript network at `path` for pictures of `size` px.

    Raises FeatureError.
    """
    if path is None:
        return inception(device)
    return packaged(device) if str(path) == PACKAGED else scripted(path, size=size, device=device)


def inception(device: torch.device) -> FeatureNetwork:
    """torch-fidelity's Inception of 2015, 2048 features; it resizes to 299 px itself, as TensorFlow 1 did.

    Its weights must lie in torch's folder of downloads. Raises FeatureError, which says where, when they do not.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_URL.rpartition("/")[2]
    if not path.is_file():
        raise FeatureError(
            f"Inception's weights are not there: fetch {INCEPTION_URL} (SHA-256 {INCEPTION_SHA256}) and put it in "
            f"{path.parent}, or take {PACKAGED}, whose weights are a package, or a network of your own."
        )
    with path.open("rb") as file:
        content = file.read(MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != INCEPTION_SHA256:
        raise FeatureError(
            f"{path} is not the published file (its SHA-256 is not {INCEPTION_SHA256}); fetch {INCEPTION_URL} again."
        )
    name = "inception-v3-compat"
    # the library unpickles what it is given: these bytes, which are known, not the file, which may have changed
    network = FeatureExtractorInceptionV3(name, ["2048"], feature_extractor_weights_path=io.BytesIO(content))
    network.to(device)

    def run(pictures: Batch) -> Features:
        with undisturbed(device):
            (features,) = network(_planes(pictures).to(device))
        return np.asarray(features.cpu().numpy(), np.float32)

    return FeatureNetwork(name=name, sha256=INCEPTION_SHA256, dimension=2048, takes="uint8 0..255", run=run)


def packaged(device: torch.device) -> FeatureNetwork:
    """EfficientNet-Lite2, the 1280 features before its classifier. Raises FeatureError when its package is missing."""
    network = efficientnet(PACKAGED).to(device)

    def run(pictures: Batch) -> Features:
        with undisturbed(device):
            features = network.pooled(to_signal(_planes(pictures).to(device).float()))
        return np.asarray(features.cpu().numpy(), np.float32)

    identity = sha256(weights_of(PACKAGED))
    return FeatureNetwork(name=PACKAGED, sha256=identity, dimension=POOLED, takes="float32 -1..1", run=run)


def scripted(path: Path, *, size: int, device: torch.device) -> FeatureNetwork:
    """The network of a TorchScript file, which turns (N, 3, size, size) RGB into floating-point (N, D), 2 <= D <= 4096.

    It is given uint8, 0..255, as torch-fidelity's own networks are, and float32, 0..1, when it refuses that; any other
    scaling or resizing it does itself. Where it has the option `return_features`, as NVIDIA's Inception, that is set.

    Raises FeatureError for a file that is missing, too large or damaged, and for a network of another shape.
    """
    network = _load_script(path, device)
    arguments = [argument.name for argument in network.forward.schema.arguments]
    options = {"return_features": True} if "return_features" in arguments else {}

    def run(pictures: Batch, *, scale: bool) -> Tensor:
        planes = _planes(pictures).to(device)
        with undisturbed(device):
            features = network(planes.float() / 255 if scale else planes, **options)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(pictures):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise FeatureError(
                f"{path} turns {tuple(planes.shape)} into {found}, expected ({len(pictures)}, D): one row per picture."
            )
        return features.float().cpu()

    example = np.zeros((2, size, size, 3), np.uint8)
    try:
        features, scale = run(example, scale=False), False
    except RuntimeError:  # for instance a convolution, whose weights are float32
        try:
            features, scale = run(example, scale=True), True
        except RuntimeError as error:
            raise FeatureError(
                f"{path} does not take pictures of {size} px ({_reason(error)}); it must resize them itself."
            ) from error
    dimension = features.shape[1]
    if not 2 <= dimension <= MAX_DIMENSION:
        raise FeatureError(f"{path} gives {dimension} features per picture, expected 2 to {MAX_DIMENSION}.")
    return FeatureNetwork(
        name=path.name,
        sha256=sha256(path),
        dimension=dimension,
        takes="float32 0..1" if scale else "uint8 0..255",
        run=lambda pictures: run(pictures, scale=scale).numpy(),
    )


def features_of(network: FeatureNetwork, pictures: Iterable[Picture]) -> Features:
    """(N, D) of N pictures of one size. Raises FeatureError when a feature is not finite."""
    waiting = iter(pictures)
    rows = [np.empty((0, network.dimension), np.float32)]
    while batch := list(itertools.islice(waiting, BATCH)):
        rows.append(network.run(np.stack(batch)))
    features = np.concatenate(rows)
    if not np.isfinite(features).all():
        raise FeatureError(f"{network.name} gives features that are not finite; use another network.")
    return features


def distance(real: Features, translated: Features) -> Distance:
    """FID and KID of two sets of features of at least two pictures each. Raises FeatureError when there are fewer."""
    fewer = min(len(real), len(translated))
    if fewer < 2:
        raise FeatureError(f"FID and KID need at least 2 pictures of each kind, but there are only {fewer}; add more.")
    subset = min(KID_SUBSET, fewer)
    both = torch.from_numpy(real), torch.from_numpy(translated)
    fid = fid_statistics_to_metric(*map(fid_features_to_statistics, both), verbose=False)
    kid = kid_features_to_metric(*both, kid_subsets=KID_SUBSETS, kid_subset_size=subset, verbose=False)
    return Distance(
        fid=fid["frechet_inception_distance"],
        kid=kid["kernel_inception_distance_mean"],
        kid_deviation=kid["kernel_inception_distance_std"],
        kid_subset=subset,
        translated=len(translated),
        real=len(real),
        caution=_caution(len(translated), len(real), real.shape[1]),
    )


def _caution(translated: int, real: int, dimension: int) -> str:
    fewer = min(translated, real)
    if fewer >= FEW:
        return ""
    whole = (
        f"; KID's subsets are as large as the smaller set ({fewer}), so its deviation says little"
        if fewer <= KID_SUBSET
        else ""
    )
    return (
        f"{translated} translated and {real} real pictures are few for {dimension} features: FID is too high by an "
        f"amount that depends on both counts, so compare it only at the same counts{whole}."
    )


def _planes(pictures: Batch) -> Tensor:
    """uint8 (N, S, S, 3) -> (N, 3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def _load_script(path: Path, device: torch.device) -> Any:
    """The network in a TorchScript file, in eval mode."""
    if not path.is_file():
        raise FeatureError(f"{path} is not a file; name a TorchScript file.")
    size = path.stat().st_size
    try:
        if size <= MAX_BYTES:
            with zipfile.ZipFile(path) as archive:
                size = sum(part.file_size for part in archive.infolist())
        if size <= MAX_BYTES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated; it is still the format of these files
                return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged archive raises many kinds; each means the same here
        raise FeatureError(
            f"{path} cannot be read as TorchScript ({_reason(error)}); save the network again."
        ) from error
    raise FeatureError(
        f"{path} has {size >> 20} MiB unpacked, expected at most {MAX_BYTES >> 20}; use a smaller network."
    )


def _reason(error: BaseException) -> str:
    """The last line of a TorchScript error is the one that says what was wrong; the others are its trace."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip(".:")
