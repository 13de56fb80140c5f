"""Genuine SNP reports, under the production roots, give the verdict that their manifest states."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.amd_x509 import parse_amd_certificate
from toposeal.evidence.snp_certs import SnpEndorsements, parse_endorsements
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.snp_authentic import AuthenticSnp, authenticate
from toposeal.verification.snp_policy import refuse_unsafe_guest

NAMES = ("v2-milan", "v2-milan-debug-policy", "v3-genoa")
PRODUCTS = ("milan", "genoa", "turin")
DAY = 86400


@dataclass(frozen=True)
class Vectors:
    """The SNP part of the manifest, with the files that it names."""

    folder: Path
    entries: dict[str, dict[str, Any]]

    def report(self, name: str) -> bytes:
        return self.file(name, "report")

    def leaf(self, name: str) -> bytes:
        return self.file(name, "leaf")

    def file(self, name: str, part: str) -> bytes:
        entry: dict[str, str] = self.entries[name]
        return (self.folder / entry["dir"] / entry[part]).read_bytes()

    def chain(self, name: str) -> bytes:
        files = [part.removeprefix("shared:") for part in self.entries[name]["chain"]]
        return b"".join((self.folder / file).read_bytes() for file in files)

    def endorsements(self, name: str) -> SnpEndorsements:
        return parse_endorsements(self.leaf(name), self.chain(name))

    def authenticate(
        self, name: str, now: int | None = None, report: SnpReport | None = None
    ) -> AuthenticSnp:
        moment: int = self.entries[name]["reference_time"] if now is None else now
        made = report or parse_snp_report(self.report(name))
        return authenticate(made, self.endorsements(name), VENDOR_ANCHORS, moment)


@pytest.fixture(scope="module")
def snp(shared_vectors: Path) -> Vectors:
    entries = json.loads((shared_vectors / "manifest.json").read_text())
    return Vectors(shared_vectors, {entry["name"]: entry for entry in entries if entry["kind"] == "snp"})


def test_every_snp_vector_is_tested(snp: Vectors) -> None:
    assert sorted(snp.entries) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_authentic(snp: Vectors, name: str) -> None:
    """With every warning an error: a VCEK's serial number is 0."""
    expected = snp.entries[name]["expected_fields"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = snp.authenticate(name)
    assert found.product == snp.entries[name]["product"].capitalize()
    assert found.chip is not None
    assert found.chip.hex() == expected["chip_id"]
    for which in ("reported", "current", "committed", "launch"):
        assert getattr(found, f"{which}_tcb").components() == expected[f"{which}_tcb_decoded"]
    assert found.expires_at == _seconds(snp.entries[name]["valid_until"])


@pytest.mark.parametrize("name", NAMES)
def test_a_debuggable_guest_is_refused_by_policy(snp: Vectors, name: str) -> None:
    """Two of the three stem from before BadRAM, so their memory was never checked for aliases."""
    expected = snp.entries[name]["expected_fields"]
    wanted = [Reason.GUEST_DEBUG] if expected["policy_decoded"]["debug"] else []
    wanted += [] if expected["platform_info_decoded"]["alias_check_complete"] else [Reason.PLATFORM_INFO]
    assert snp.entries[name]["verdict"].startswith("reject") == (Reason.GUEST_DEBUG in wanted)
    found: list[Reason] = []
    try:
        refuse_unsafe_guest(parse_snp_report(snp.report(name)))
    except PolicyError as refused:
        found = [mismatch.reason for mismatch in refused.mismatches]
    assert found == wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_certificate_is_the_manifests(snp: Vectors, name: str) -> None:
    expected, key = snp.entries[name]["expected_fields"]["cert"], snp.endorsements(name).key
    assert (key.certificate.common_name, key.certificate.issuer_name) == (expected["cn"], expected["issuer"])
    assert (key.certificate.serial, key.product_name) == (expected["serial"], expected["product"])
    assert (len(key.hwid), key.csp_id) == (expected["hwid_len"], expected["csp_id"])
    assert dict(key.levels) == expected["spl"]


@pytest.mark.parametrize("name", NAMES)
def test_the_window_is_that_of_the_manifest(snp: Vectors, name: str) -> None:
    entry = snp.entries[name]
    first, last = _seconds(entry["valid_from"]), _seconds(entry["valid_until"])
    for inside in (first, last):
        assert snp.authenticate(name, inside)
    for outside in (0, first - 1, last + 1, 1 << 40):
        with pytest.raises(EvidenceError) as refused:
            snp.authenticate(name, outside)
        assert refused.value.reason is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("name", NAMES)
def test_E13_a_changed_report_is_refused(snp: Vectors, name: str) -> None:
    genuine = snp.report(name)
    for offset in range(0, len(genuine), 13):
        changed = bytearray(genuine)
        changed[offset] ^= 1 << offset % 8
        with pytest.raises(EvidenceError):
            snp.authenticate(name, report=parse_snp_report(bytes(changed)))


@pytest.mark.parametrize("name", NAMES)
def test_E10_no_other_genuine_chain_fits(snp: Vectors, name: str) -> None:
    report, own = parse_snp_report(snp.report(name)), snp.entries[name]["product"]
    for product in PRODUCTS:
        for ca in ("ask", "asvk"):
            folder = snp.folder / "snp" / "amd" / product
            chain = (folder / f"{ca}.pem").read_bytes() + (folder / "ark.pem").read_bytes()
            endorsed = parse_endorsements(snp.leaf(name), chain)
            if (product, ca) == (own, "ask"):
                assert authenticate(report, endorsed, VENDOR_ANCHORS, snp.entries[name]["reference_time"])
                continue
            with pytest.raises(EvidenceError) as refused:
                authenticate(report, endorsed, VENDOR_ANCHORS, snp.entries[name]["reference_time"])
            assert refused.value.reason in (Reason.PRODUCT, Reason.SIGNING_KEY)


def test_E10_two_chips_of_one_product_do_not_vouch_for_each_other(snp: Vectors) -> None:
    first, second = "v2-milan", "v2-milan-debug-policy"
    report = parse_snp_report(snp.report(first))
    with pytest.raises(EvidenceError) as refused:
        authenticate(report, snp.endorsements(second), VENDOR_ANCHORS, snp.entries[first]["reference_time"])
    assert refused.value.reason is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize("name", NAMES)
def test_the_library_still_reads_the_same_certificate(snp: Vectors, name: str) -> None:
    """While it does: then our reading and its reading agree."""
    ours = snp.endorsements(name).key.certificate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = x509.load_der_x509_certificate(snp.leaf(name))
        assert theirs.serial_number == ours.serial == 0
    assert theirs.tbs_certificate_bytes == ours.signed
    assert theirs.signature == ours.signature
    assert theirs.subject.public_bytes() == ours.subject


@pytest.mark.parametrize("name", NAMES)
def test_no_release_of_the_library_has_to_load_a_vcek(
    snp: Vectors, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A serial number of 0 is forbidden by RFC 5280, and `cryptography` has announced to refuse it."""

    def refuse(*_: object) -> None:
        raise ValueError("serial number 0")

    for loader in ("load_der_x509_certificate", "load_pem_x509_certificate", "load_pem_x509_certificates"):
        monkeypatch.setattr(x509, loader, refuse)
    parse_amd_certificate.cache_clear()
    assert snp.endorsements(name).key.certificate.serial == 0
    assert snp.authenticate(name).report.raw == snp.report(name)


def _seconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())
