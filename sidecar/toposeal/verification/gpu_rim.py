"""Does a device run what NVIDIA released: its measurements against signed reference manifests (RIM). No IO.

A manifest counts once its signature leads to the pinned root. Measurements that no manifest lists are not
compared, as in NVIDIA's own verifiers: their meaning is not public.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from toposeal.errors import EvidenceError, Mismatch, PolicyError, Reason
from toposeal.evidence.rim import Rim
from toposeal.verification.gpu_authentic import AuthenticGpu, GpuArchitecture
from toposeal.verification.model import TrustAnchors

_NVDEC0_INDEX = 35  # the video decoder's firmware, which is not loaded where the decoder is off


@dataclass(frozen=True)
class AuthenticRim:
    """A manifest that NVIDIA signed. Constructed by `authenticate_rim` alone."""

    rim: Rim
    expires_at: int  # Unix seconds


def authenticate_rim(rim: Rim, anchors: TrustAnchors, now: int) -> AuthenticRim:
    """Verify chain and signature at `now` (Unix seconds). Raises EvidenceError: RIM."""
    levels = rim.certificates
    if levels[-1].der not in anchors.nvidia_rim_roots:
        raise _refusal("certificates", levels[-1].common_name, "a pinned root at the end")
    for place, (each, issuer) in enumerate(zip(levels, (*levels[1:], levels[-1]), strict=True)):
        if not each.not_before <= now <= each.not_after:
            window = f"{each.not_before} to {each.not_after}"
            raise _refusal(f"certificates[{place}]", f"now {now}", window)
        if not issuer.is_ca or not each.issued_by(issuer):
            raise _refusal(f"certificates[{place}].issuer", "another", issuer.common_name)
    if levels[0].is_ca:
        raise _refusal("certificates[0]", "a CA", "a key that signs manifests")
    _expect_signature(rim)
    return AuthenticRim(rim, min(each.not_after for each in levels))


def require_rims(gpu: AuthenticGpu, manifests: Sequence[AuthenticRim]) -> int:
    """Every measurement that the manifests list has a listed value; the number of those compared, not 0.

    There has to be one for the driver's version and one for the VBIOS's, which the device has to report, and
    no other. Raises PolicyError with every mismatch: RIM, or MEASUREMENT.
    """
    rims = [each.rim for each in manifests]
    wrong = [*_unsaid(gpu), *_unfit(gpu, rims), *_missing(gpu, rims), *_conflicts(rims)]
    if wrong:
        raise PolicyError(*wrong)
    golden = {index: values for rim in rims for index, values in rim.golden.items()}
    if gpu.report.nvdec0 is False:
        golden.pop(_NVDEC0_INDEX, None)
    if not golden:
        raise PolicyError.of(Reason.RIM, "rims.measurements", "none to compare", "one or more")
    differing = list(_differences(gpu, golden))
    if differing:
        raise PolicyError(*differing)
    return len(golden)


def _expect_signature(rim: Rim) -> None:
    """The document is what the signed reference names, and the key signed that reference."""
    if not hmac.compare_digest(rim.covered, rim.digest):
        raise _refusal("DigestValue", rim.digest, rim.covered.hex())
    signature = utils.encode_dss_signature(rim.signature_r, rim.signature_s)
    try:
        rim.certificates[0].public_key.verify(signature, rim.signed_info, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise _refusal("SignatureValue", "one that does not hold", "one that holds") from error


def _versions(gpu: AuthenticGpu) -> list[str]:
    """What has to be covered, of what is said."""
    return [version.upper() for version in (gpu.driver_version, gpu.vbios_version) if version]


def _unsaid(gpu: AuthenticGpu) -> Iterator[Mismatch]:
    """Without a version no manifest is the device's, and nothing is compared. A switch has no driver."""
    if not gpu.vbios_version:
        yield Mismatch(Reason.RIM, "report.opaque.VBIOS_VERSION", "nothing", "a version")
    if not gpu.driver_version and gpu.architecture is not GpuArchitecture.LS10:
        yield Mismatch(Reason.RIM, "report.opaque.DRIVER_VERSION", "nothing", "a version")


def _unfit(gpu: AuthenticGpu, rims: Sequence[Rim]) -> Iterator[Mismatch]:
    versions = _versions(gpu)
    expected = " or ".join(versions) or "a version that is said"
    for place, rim in enumerate(rims):
        if rim.product.replace("_", "") != gpu.model.replace("_", ""):
            yield Mismatch(Reason.RIM, f"rim[{place}].product", rim.product, gpu.model)
        if rim.version.upper() not in versions:
            yield Mismatch(Reason.RIM, f"rim[{place}].version", rim.version, expected)


def _missing(gpu: AuthenticGpu, rims: Sequence[Rim]) -> Iterator[Mismatch]:
    """A manifest is known by its version alone: under one version for both, one would do for both."""
    supplied, versions = [rim.version.upper() for rim in rims], _versions(gpu)
    if len(set(versions)) != len(versions):
        yield Mismatch(Reason.RIM, "report.opaque.DRIVER_VERSION", gpu.driver_version, "not the VBIOS's")
    for version in versions:
        if supplied.count(version) != 1:
            yield Mismatch(Reason.RIM, "rims", f"{supplied.count(version)} for {version}", "one")


def _conflicts(rims: Sequence[Rim]) -> Iterator[Mismatch]:
    """Two manifests that both list an index would let the weaker one decide."""
    seen: set[int] = set()
    for place, rim in enumerate(rims):
        for index in sorted(seen.intersection(rim.golden)):
            yield Mismatch(Reason.RIM, f"rim[{place}].measurements[{index}]", "listed twice", "listed once")
        seen.update(rim.golden)


def _differences(gpu: AuthenticGpu, golden: Mapping[int, frozenset[bytes]]) -> Iterator[Mismatch]:
    measured = gpu.measurements
    for index, admitted in sorted(golden.items()):
        found = measured[index] if index < len(measured) else b""
        if found not in admitted:
            shown = found.hex() or "nothing"
            expected = f"one of {len(admitted)} values of the manifest"
            yield Mismatch(Reason.MEASUREMENT, f"report.measurements[{index}]", shown, expected)


def _refusal(field: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.RIM, f"rim.{field}", found, expected)
