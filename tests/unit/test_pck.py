"""The PCK chain of a quote is leaf, platform CA and root, and names one machine."""

from __future__ import annotations

import pytest
from support.tdx import HOST, NOW, PKI, PPID, refusal

from toposeal.errors import Reason
from toposeal.evidence.pck import parse_pck_chain
from toposeal_lab.simtdx.pki import PCK_NAME, issue
from toposeal_lab.simtdx.sgx_extension import PlatformIdentity

TAIL = PKI.platform_ca.pem() + PKI.root.pem()


def test_the_platform_is_the_one_in_the_leaf() -> None:
    pck = parse_pck_chain((HOST.pck.pem() + TAIL).encode())
    assert (pck.ppid, pck.fmspc, pck.pce_id) == (PPID, PKI.fmspc, PKI.pce_id)
    assert pck.leaf.issued_by(pck.platform_ca)
    assert pck.root.der == PKI.root_der
    assert NOW < pck.valid_until <= pck.leaf.not_after


@pytest.mark.parametrize(
    ("ppid", "fmspc", "pce_id"),
    [(bytes(15), bytes(6), bytes(2)), (bytes(16), bytes(7), bytes(2)), (bytes(16), bytes(6), bytes(1))],
)
def test_an_identity_of_another_size_is_refused(ppid: bytes, fmspc: bytes, pce_id: bytes) -> None:
    leaf = PKI.issue_pck(PlatformIdentity(ppid, fmspc, pce_id))
    assert refusal(parse_pck_chain, (leaf.pem() + TAIL).encode()) is Reason.QUOTE_FORMAT


@pytest.mark.parametrize("extension", [None, b"", b"\x30\x00", b"\xff" * 40])
def test_a_leaf_without_a_readable_identity_is_refused(extension: bytes | None) -> None:
    leaf = issue(PCK_NAME, PKI.platform_ca, NOW, extension=extension)
    assert refusal(parse_pck_chain, (leaf.pem() + TAIL).encode()) is Reason.QUOTE_FORMAT


def test_E10_an_extra_certificate_is_refused() -> None:
    extra = issue("Intel SGX PCK Platform CA", PKI.platform_ca, NOW, path_length=0)
    assert refusal(parse_pck_chain, (HOST.pck.pem() + extra.pem() + TAIL).encode()) is Reason.QUOTE_FORMAT
