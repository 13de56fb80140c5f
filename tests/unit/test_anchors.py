"""A production build trusts Intel's root and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509

from toposeal.verification.anchors import VENDOR_ANCHORS


def test_the_root_is_intels() -> None:
    """The fingerprint that Intel publishes for IntelSGXRootCA.der."""
    der = VENDOR_ANCHORS.intel_sgx_root_ca
    expected = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    assert hashlib.sha256(der).hexdigest() == expected
    root = x509.load_der_x509_certificate(der)
    assert root.subject == root.issuer
    root.verify_directly_issued_by(root)


def test_it_is_the_root_of_the_genuine_quotes(shared_vectors: Path) -> None:
    assert VENDOR_ANCHORS.intel_sgx_root_ca == (shared_vectors / "tdx/intel_sgx_root_ca.der").read_bytes()
