"""A production build trusts the root of Intel, the three of AMD, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography import x509

from toposeal.evidence.amd_x509 import parse_amd_certificate
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


AMD = (
    ("Milan", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    ("Genoa", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    ("Turin", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
)


@pytest.mark.parametrize(("index", "name", "fingerprint"), [(i, *each) for i, each in enumerate(AMD)])
def test_the_roots_of_amd_are_its_products(index: int, name: str, fingerprint: str) -> None:
    der = VENDOR_ANCHORS.amd_roots[index]
    assert hashlib.sha256(der).hexdigest() == fingerprint
    root = parse_amd_certificate(der, "root")
    assert root.common_name == root.issuer_name == f"ARK-{name}"
    assert root.may_sign_certificates()
    assert root.issued_by(root)


def test_there_is_one_root_for_each_product() -> None:
    assert len(VENDOR_ANCHORS.amd_roots) == len(AMD)


@pytest.mark.parametrize(("index", "name"), [(i, name.lower()) for i, (name, _) in enumerate(AMD)])
def test_they_are_the_roots_of_the_genuine_chains(shared_vectors: Path, index: int, name: str) -> None:
    folder = shared_vectors / "snp" / "amd" / name
    assert VENDOR_ANCHORS.amd_roots[index] == (folder / "ark.der").read_bytes()
    root = parse_amd_certificate(VENDOR_ANCHORS.amd_roots[index], "root")
    for ca in ("ask", "asvk"):
        certificate = parse_amd_certificate((folder / f"{ca}.der").read_bytes(), "ca")
        assert certificate.issued_by(root)
        assert certificate.may_sign_certificates()
