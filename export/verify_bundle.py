"""A bundle where it lies now: are its files those that were exported, and do the engines here give PyTorch's pictures?

What PyTorch makes of a few pictures is stored in the bundle, so this needs no torch: it is for the device.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

from cyclegan_edge.backends import ENGINES
from cyclegan_edge.backends.base import EngineName, format_of
from cyclegan_edge.backends.candidates import computes
from cyclegan_edge.bounds import BOUNDS, Pair, reference_pairs
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import BundleError, ConfigError, EngineError, ExportError
from cyclegan_edge.export.parity import Outcome, Verdict, compare, open_artifact


def verify_bundle(
    bundle: Bundle,
    *,
    engine: EngineName | None = None,
    precision: Precision | None = None,
) -> Iterator[Verdict]:
    """What came of each file that is damaged, then of each sound artifact with each engine that reads it.

    engine      only this one, which must run; None: all but onnx-tensorrt, and what cannot run here is skipped
    precision   only this one; bf16 is also OpenVINO's way to compute the float32 graph

    Raises BundleError when the bundle holds nothing to compare, EngineError when nothing of it runs here, ConfigError
    for the engine "auto".
    """
    if engine == "auto":
        raise ConfigError("engine is 'auto', but every engine is verified by itself; name one, or leave it out.")
    damaged = dict(_damaged(bundle))
    yield from (Verdict(file=file, outcome="failed", reason=reason) for file, reason in damaged.items())
    if not bundle.manifest.references:
        raise BundleError(f"{bundle.folder} holds no reference pictures to compare with; export the model again.")
    pairs = reference_pairs(bundle, without=damaged)
    runs = list(_runs(bundle, engine, precision))
    if not runs:
        wanted = " ".join(["for", engine or "an engine", *(["in", precision] if precision else [])])
        raise BundleError(f"{bundle.folder} holds nothing {wanted}; leave the options out to see what it holds.")
    ran = False
    for artifact, name, computed in runs:
        if pairs and not any(part.file in damaged for part in artifact.files()):
            verdict = _verdict(bundle, artifact, name, computed, pairs)
            if engine and verdict.outcome == "skipped" and artifact.fixed is None:
                verdict = replace(verdict, outcome="failed")
            ran = ran or verdict.outcome != "skipped"
            yield verdict
    if not ran and not damaged:
        raise EngineError(
            f"Nothing in {bundle.folder} runs here, so nothing was compared; `cyclegan-edge doctor` says what is "
            f"missing."
        )


def _damaged(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Each file that is not the one that was exported, and a sentence about it."""
    for part in bundle.manifest.files():
        try:
            bundle.checked(part)
        except BundleError as error:
            yield part.file, str(error)


def _runs(
    bundle: Bundle, engine: EngineName | None, precision: Precision | None
) -> Iterator[tuple[Artifact, EngineName, Precision]]:
    """What is to be run: an artifact, by an engine, computing in a precision."""
    for artifact in bundle.manifest.artifacts:
        for name in (engine,) if engine else ENGINES:
            if format_of(name) != artifact.format or (artifact.for_other_programs and name != "onnxruntime"):
                continue
            if not computes(name, artifact.precision):
                continue
            if precision in (None, artifact.precision):
                yield artifact, name, artifact.precision
            elif (name, artifact.precision, precision) == ("openvino", "fp32", "bf16"):
                yield artifact, name, "bf16"


def _verdict(
    bundle: Bundle,
    artifact: Artifact,
    engine: EngineName,
    precision: Precision,
    pairs: list[Pair],
) -> Verdict:
    size = pairs[0][0].shape[:2]
    if artifact.fixed is not None and artifact.fixed != (1, *size):
        reason = f"{artifact.file} takes {artifact.fixed[1:]} px only, and the pictures in the bundle have {size}."
        return Verdict(file=artifact.file, outcome="skipped", reason=reason, engine=engine)
    try:
        name, translate = open_artifact(bundle, artifact, engine=engine, precision=precision)
    except EngineError as error:
        refused = engine == "onnxruntime" and sys.modules.get(engine) is not None  # it runs whatever an export writes
        outcome: Outcome = "failed" if refused else "skipped"
        return Verdict(file=artifact.file, outcome=outcome, reason=str(error), engine=engine)
    except (BundleError, ExportError) as error:
        return Verdict(file=artifact.file, outcome="failed", reason=str(error), engine=engine)
    try:
        verdict = compare(artifact.file, translate, pairs, bound=BOUNDS[precision], engine=name)
    except (EngineError, ExportError) as error:
        return Verdict(file=artifact.file, outcome="failed", reason=str(error), engine=name)
    if verdict.outcome == "failed":
        return replace(verdict, reason=f"{verdict.reason}; choose another engine, or export the model again.")
    return verdict
