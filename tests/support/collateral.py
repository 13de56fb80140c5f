"""Authentic collateral of the simulated Intel, and revocation lists of any age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from support.tdx import NOW, PKI
from toposeal.verification.collateral_authentic import AuthenticCollateral, authenticate_collateral
from toposeal_lab.simtdx import Authority

DAY = 86_400


def authentic(**overrides: Any) -> AuthenticCollateral:
    """The vendor's collateral at NOW; `overrides` are fields of CollateralSpec."""
    return authenticate_collateral(PKI.collateral(**overrides), PKI.anchors(), NOW)


def crl(issuer: Authority, days: int, number: int | None = 1) -> bytes:
    """A list in DER, made `days` after the vendor's other ones; None means without a CRLNumber."""
    start = datetime.fromtimestamp(NOW - DAY, UTC) + timedelta(days=days)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + timedelta(days=31))
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
