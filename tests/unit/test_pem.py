"""PEM as other programs write it; what comes out is canonical."""

from __future__ import annotations

import base64

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import pem
from toposeal.verification.anchors import VENDOR_ANCHORS

FIRST, SECOND = VENDOR_ANCHORS.amd_roots[:2]


def test_what_is_written_is_read() -> None:
    text = pem.encode(FIRST, SECOND)
    assert pem.decode(text, "chain") == (FIRST, SECOND)
    assert text.startswith(b"-----BEGIN CERTIFICATE-----\nMII") and text.endswith(
        b"-----END CERTIFICATE-----\n"
    )
    assert max(map(len, text.split(b"\n"))) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n\n" + text + b"\n \n",
        lambda text: text.removesuffix(b"\n"),
        lambda text: text.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----"),
        lambda text: text.replace(b"\nMII", b"\n  MII"),
    ],
    ids=["CRLF", "space around", "no last newline", "no newline between", "indented"],
)
def test_other_spellings_mean_the_same(change: object) -> None:
    assert callable(change)
    assert pem.decode(change(pem.encode(FIRST, SECOND)), "chain") == (FIRST, SECOND)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no certificate",
        pem.encode(FIRST) + b"more",
        b"more" + pem.encode(FIRST),
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(bytes(13_000)) + b"\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n=\n-----END CERTIFICATE-----\n",
    ],
)
def test_E14_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError) as refused:
        pem.decode(text, "chain")
    assert refused.value.reason is Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize("text", [pem.encode(FIRST, SECOND), pem.encode(FIRST).removesuffix(b"\n")])
def test_canonical_text_may_lack_its_last_newline(text: bytes) -> None:
    assert pem.decode_canonical(text, "chain") == pem.decode(text, "chain")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nQR==\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nQQ==QQ==\n-----END CERTIFICATE-----\n",
        pem.encode(FIRST) + b"\n",
        b"\n" + pem.encode(FIRST),
        pem.encode(FIRST) + b"\n" + pem.encode(SECOND),
        pem.encode(FIRST).replace(b"\n", b"\r\n"),
        pem.encode(FIRST).replace(b"\nMII", b"\n MII"),
        pem.encode(FIRST).replace(b"\nMII", b"\nM\nII"),
    ],
)
def test_E10_another_spelling_is_not_canonical(text: bytes) -> None:
    """Base64 with free bits, other lines, other space: each may be read otherwise by somebody else."""
    with pytest.raises(EvidenceError) as refused:
        pem.decode_canonical(text, "chain", Reason.QUOTE_FORMAT)
    (found,) = refused.value.mismatches
    assert (found.reason, found.field) == (Reason.QUOTE_FORMAT, "chain")
