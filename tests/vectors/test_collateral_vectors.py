"""Genuine collateral, under the production roots: authentic by itself, ordered, and of the services' form."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import pem
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.pcs_answers import Answer, collateral_entry
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.collateral_authentic import (
    AuthenticCollateral,
    authenticate_amd_ca,
    authenticate_collateral,
    authenticate_endorsement,
)
from toposeal.verification.high_water import Marks

NAMES = (
    "v4-phala-b0c06f/collateral-2025-06",
    "v4-phala-b0c06f/collateral-2026-10",
    "v4-gcp-00806f/collateral-2026-01",
    "v4-spr-e4-unsupported-tcb/collateral-2023-06",
    "v4-gcp-cos113-ccel/collateral-2025-07",
    "v4-gcp-cos113-ccel/collateral-2026-01",
)


def read(vectors: Path, name: str) -> bytes:
    return (vectors / "tdx" / f"{name}.json").read_bytes()


def authentic(vectors: Path, name: str) -> AuthenticCollateral:
    entry = read(vectors, name)
    return authenticate_collateral(entry, VENDOR_ANCHORS, parse_collateral(entry).valid_until - 1)


@pytest.mark.parametrize("name", NAMES)
def test_intels_own_is_authentic(shared_vectors: Path, name: str) -> None:
    found = authentic(shared_vectors, name)
    assert found.evaluation == parse_collateral(found.entry).tcb_info.evaluation


@pytest.mark.parametrize("name", NAMES)
def test_intel_numbers_every_list_1(shared_vectors: Path, name: str) -> None:
    """Why a list's own date orders those of one number (verification.collateral_authentic.ListAge)."""
    assert {age.number for _, age in authentic(shared_vectors, name).lists} == {1}


def test_E9_the_older_of_two_genuine_generations_is_refused(shared_vectors: Path) -> None:
    older, newer = (authentic(shared_vectors, name) for name in NAMES[:2])
    marks = Marks().raised(newer)
    with pytest.raises(EvidenceError) as refused:
        marks.check(older)
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK
    Marks().raised(older).check(newer)


def test_E9_an_older_genuine_list_is_refused_although_its_number_is_the_same(shared_vectors: Path) -> None:
    older, newer = (authentic(shared_vectors, name) for name in NAMES[:2])
    with pytest.raises(EvidenceError, match="CRLNumber 1 of") as refused:
        Marks(lists=Marks().raised(newer).lists).check(older)
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_that_it_came_in_give_it_again(shared_vectors: Path, name: str) -> None:
    """Byte for byte in the signed texts; the recorded entries keep the chains as the headers have them."""
    parts: dict[str, str] = json.loads(read(shared_vectors, name))

    def signed(member: str, key: str) -> bytes:
        return f'{{"{key}":{parts[member]},"signature":"{parts[member + "_signature"]}"}}'.encode()

    def chain(header: str, member: str) -> dict[str, str]:
        return {header: quote(parts[member])}

    entry = collateral_entry(
        Answer(chain("tcb-info-issuer-chain", "tcb_info_issuer_chain"), signed("tcb_info", "tcbInfo")),
        Answer(
            chain("sgx-enclave-identity-issuer-chain", "qe_identity_issuer_chain"),
            signed("qe_identity", "enclaveIdentity"),
        ),
        Answer(chain("sgx-pck-crl-issuer-chain", "pck_crl_issuer_chain"), bytes.fromhex(parts["pck_crl"])),
        Answer({}, parts["root_ca_crl"].encode()),
    )
    assert parse_collateral(entry) == parse_collateral(read(shared_vectors, name))


@pytest.mark.parametrize(
    ("name", "product"),
    [("v2-milan", Product.MILAN), ("v2-milan-debug-policy", Product.MILAN), ("v3-genoa", Product.GENOA)],
)
def test_amds_own_certificates_are_authentic(shared_vectors: Path, name: str, product: Product) -> None:
    folder = shared_vectors / "snp"
    vcek = (folder / name / "vcek.der").read_bytes()
    ask = (folder / "amd" / product.lower() / "ask.pem").read_bytes()
    now = 1_767_225_600  # 2026
    ca = authenticate_amd_ca(pem.decode(ask, "ask")[0], product, KeyKind.VCEK, VENDOR_ANCHORS, now)
    assert authenticate_endorsement(vcek, ca, now).product is product


@pytest.mark.parametrize("product", list(Product))
def test_amds_asvk_is_not_the_ask(shared_vectors: Path, product: Product) -> None:
    asvk = (shared_vectors / "snp" / "amd" / product.lower() / "asvk.pem").read_bytes()
    der, now = pem.decode(asvk, "asvk")[0], 1_767_225_600
    assert authenticate_amd_ca(der, product, KeyKind.VLEK, VENDOR_ANCHORS, now).kind is KeyKind.VLEK
    with pytest.raises(EvidenceError):
        authenticate_amd_ca(der, product, KeyKind.VCEK, VENDOR_ANCHORS, now)
