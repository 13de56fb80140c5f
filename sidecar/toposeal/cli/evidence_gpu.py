"""GPU reports in `toposeal evidence`: their options, their details, and what their verdict does not say."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from toposeal.errors import Reason, UsageError
from toposeal.evidence.kind import EvidenceKind
from toposeal.host.files import read_once
from toposeal.limits import MAX_RIM_SIZE, MAX_RIMS, NONCE_SIZE
from toposeal.verification.evidence_check import Supplied


def add_options(add: Callable[..., object]) -> None:
    add("--nonce", metavar="HEX", help="GPU: the 32 bytes that the report must have been asked with")
    text = "GPU: reference manifest of NVIDIA's, of the driver or the VBIOS; once for each"
    add("--rim", metavar="FILE", action="append", help=text)


def completed(supplied: Supplied, kind: EvidenceKind, args: argparse.Namespace) -> Supplied:
    """`supplied` with what only GPUs know. Raises UsageError where another kind is asked for it: what is
    not compared must not look as if it were."""
    given = {"--nonce": args.nonce, "--rim": args.rim}
    for option, value in given.items():
        if value is not None and kind is not EvidenceKind.GPU:
            raise UsageError.of(Reason.USAGE, option, f"evidence of kind {kind}", "a GPU's report")
    if kind is EvidenceKind.GPU and args.report_data is not None:
        raise UsageError.of(Reason.USAGE, "--report-data", "a GPU's report", "--nonce")
    paths = args.rim or []
    if len(paths) > MAX_RIMS:
        raise UsageError.of(Reason.USAGE, "--rim", f"{len(paths)} files", f"at most {MAX_RIMS}")
    rims = tuple(read_once(path, MAX_RIM_SIZE) for path in paths)
    return replace(supplied, nonce=_nonce(args.nonce), rims=rims)


def notes(args: argparse.Namespace) -> Iterator[str]:
    """What a verdict on a GPU does not say."""
    if args.nonce is None:
        yield "no --nonce: the report may be old, or made for somebody else"
    if args.rim is None:
        yield "no --rim: firmware and driver were not compared; developer tools might be on"
    yield "revocation was not checked: NVIDIA answers by OCSP, and nothing here asks a network"
    yield "where the device is, and which machine it is attached to, no report says"


def _nonce(text: str | None) -> bytes | None:
    """All 32 bytes or none."""
    if text is None:
        return None
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * NONCE_SIZE}}}", text, re.ASCII) is None:
        raise UsageError.of(Reason.USAGE, "--nonce", text, f"{NONCE_SIZE} bytes in hexadecimal")
    return bytes.fromhex(text)
