"""Genuine TDX quotes, under the production roots, give the verdict that their manifest states."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.tdx_authentic import AuthenticTdx, authenticate

NAMES = (
    "v4-phala-b0c06f",
    "v4-gcp-00806f",
    "v4-spr-e4-unsupported-tcb",
    "v4-gcp-cos113-ccel",
    "v4-dstack-rtmr3-log",
)
MEASURED = (
    *("tee_tcb_svn", "mrseam", "mrsignerseam", "seam_attributes", "td_attributes", "xfam", "mrtd"),
    *("mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data"),
)
VERDICTS = (
    ("v4-phala-b0c06f", "collateral-2025-06.json"),
    ("v4-phala-b0c06f", "collateral-2026-10.json"),
    ("v4-gcp-00806f", "collateral-2026-01.json"),
    ("v4-spr-e4-unsupported-tcb", "collateral-2023-06.json"),
    ("v4-gcp-cos113-ccel", "collateral-2025-07.json"),
    ("v4-gcp-cos113-ccel", "collateral-2026-01.json"),
)
DAY = 86400
# Its publisher marked this negative quote with a line of text after the end; nothing else may follow.
MARKED = "v4-spr-e4-unsupported-tcb"
MARK_SIZE = 39


@pytest.fixture(scope="module")
def tdx(shared_vectors: Path) -> Vectors:
    entries = json.loads((shared_vectors / "manifest.json").read_text())
    return Vectors(shared_vectors, {entry["name"]: entry for entry in entries if entry["kind"] == "tdx"})


@dataclass(frozen=True)
class Vectors:
    """The TDX part of the manifest, with the files that it names."""

    folder: Path
    entries: dict[str, dict[str, Any]]

    def quote(self, name: str) -> bytes:
        data = self.file(name, self.entries[name]["quote"])
        return data[:-MARK_SIZE] if name == MARKED else data

    def file(self, name: str, file: str) -> bytes:
        folder: str = self.entries[name]["dir"]
        return (self.folder / folder / file).read_bytes()

    def verdict(self, name: str, collateral: str) -> dict[str, Any]:
        verdicts = self.entries[name]["verdicts"]
        found: dict[str, Any] = next(each for each in verdicts if each.get("collateral") == collateral)
        return found

    def authenticate(self, name: str, collateral: str, now: int) -> AuthenticTdx:
        quote = parse_tdx_quote(self.quote(name))
        return authenticate(quote, (self.file(name, collateral),), VENDOR_ANCHORS, now)

    def refusal(self, name: str, collateral: str, now: int) -> Reason | None:
        try:
            self.authenticate(name, collateral, now)
        except EvidenceError as refused:
            return refused.reason
        return None


def test_every_tdx_vector_is_tested(tdx: Vectors) -> None:
    assert sorted(tdx.entries) == sorted(NAMES)
    listed = {
        (name, verdict["collateral"])
        for name, entry in tdx.entries.items()
        for verdict in entry["verdicts"]
        if "collateral" in verdict
    }
    assert listed == set(VERDICTS)


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_are_those_of_the_manifest(tdx: Vectors, name: str) -> None:
    expected = tdx.entries[name]["expected_fields"]
    quote = parse_tdx_quote(tdx.quote(name))
    pck = parse_pck_chain(quote.auth.pck_chain)
    for field in MEASURED:
        assert getattr(quote, field).hex() == expected[field], field
    assert quote.version == expected["version"]
    assert quote.padding == (0 if name == MARKED else expected["trailing"])
    assert len(quote.raw) == expected["quote_len"] - expected["trailing"]
    assert len(quote.signed) == expected["signed_len"]
    found = (pck.fmspc.hex(), pck.ppid.hex(), pck.pce_id.hex())
    assert found == (expected["fmspc"], expected["ppid"], expected["pce_id"])
    assert pck.leaf.not_after == _seconds(expected["pck_not_after"])


@pytest.mark.parametrize(("name", "collateral"), VERDICTS)
def test_the_verdict_is_that_of_the_manifest(tdx: Vectors, name: str, collateral: str) -> None:
    verdict = tdx.verdict(name, collateral)
    if verdict["verdict"] == "reject":
        assert verdict["error"] == "No matching TCB level found"
        assert tdx.refusal(name, collateral, verdict["reference_time"]) is Reason.TCB_STATUS
        return
    authentic = tdx.authenticate(name, collateral, verdict["reference_time"])
    assert authentic.tcb_status == verdict["tcb_status"]
    assert list(authentic.advisories) == verdict["advisory_ids"]
    parts = {verdict["tcb_status"], verdict["platform_status"], verdict["qe_status"]}
    assert authentic.statuses == parts
    assert authentic.evaluation == verdict["tcb_eval_data_number"]
    assert authentic.ppid.hex() == tdx.entries[name]["expected_fields"]["ppid"]
    assert authentic.expires_at == _seconds(verdict["valid_until"])


@pytest.mark.parametrize(("name", "collateral"), VERDICTS)
def test_the_window_is_that_of_the_manifest(tdx: Vectors, name: str, collateral: str) -> None:
    verdict = tdx.verdict(name, collateral)
    first, last = _seconds(verdict["valid_from"]), _seconds(verdict["valid_until"])
    inside = Reason.TCB_STATUS if verdict["verdict"] == "reject" else None
    before = None if verdict["before_window"] == "ACCEPT" else Reason.COLLATERAL_INVALID
    assert tdx.refusal(name, collateral, first) is inside
    assert tdx.refusal(name, collateral, last - 1) is inside
    assert tdx.refusal(name, collateral, first - 1) is before
    for outside in (0, first - 30 * DAY, last + 1, last + DAY, 1 << 40):
        assert tdx.refusal(name, collateral, outside) is Reason.COLLATERAL_INVALID


def test_text_after_a_genuine_quote_is_refused(tdx: Vectors) -> None:
    with pytest.raises(EvidenceError) as refused:
        parse_tdx_quote(tdx.file(MARKED, tdx.entries[MARKED]["quote"]))
    assert refused.value.reason is Reason.QUOTE_TRAILING


@pytest.mark.parametrize(("name", "collateral"), VERDICTS)
def test_E13_changed_bits_of_a_genuine_quote_are_refused(tdx: Vectors, name: str, collateral: str) -> None:
    genuine, supplied = tdx.quote(name), tdx.file(name, collateral)
    now = tdx.verdict(name, collateral)["reference_time"]
    for offset in range(0, len(genuine), 97):
        changed = bytearray(genuine)
        changed[offset] ^= 1 << offset % 8
        with pytest.raises(EvidenceError):
            authenticate(parse_tdx_quote(bytes(changed)), (supplied,), VENDOR_ANCHORS, now)


def test_collateral_of_another_platform_is_no_collateral(tdx: Vectors) -> None:
    other = tdx.file("v4-gcp-00806f", "collateral-2026-01.json")
    quote = parse_tdx_quote(tdx.quote("v4-dstack-rtmr3-log"))
    for collateral in ((), (other,)):
        with pytest.raises(EvidenceError) as refused:
            authenticate(quote, collateral, VENDOR_ANCHORS, 1770801952)
        assert refused.value.reason is Reason.COLLATERAL_MISSING


def test_signatures_hold_where_no_collateral_of_its_own_is_known(tdx: Vectors) -> None:
    """The one quote that comes without collateral, under a family member's: everything that is signed passes,
    and its firmware has no level there. A changed bit of what is signed is called just that."""
    name, wanted = "v4-dstack-rtmr3-log", tdx.entries["v4-dstack-rtmr3-log"]["verdicts"][0]
    assert wanted["signatures"] == "ok"
    supplied, now = tdx.file("v4-phala-b0c06f", "collateral-2025-06.json"), 1751624191
    genuine = tdx.quote(name)
    body, signature, qe_report, qe_signature = 600, 640, 636 + 128 + 6 + 10, 636 + 128 + 6 + 384 + 10
    reasons = {}
    for offset in (None, body, signature, qe_report, qe_signature):
        changed = bytearray(genuine)
        if offset is not None:
            changed[offset] ^= 1
        with pytest.raises(EvidenceError) as refused:
            authenticate(parse_tdx_quote(bytes(changed)), (supplied,), VENDOR_ANCHORS, now)
        reasons[offset] = refused.value.reason
    assert reasons.pop(None) is Reason.TCB_STATUS
    assert set(reasons.values()) == {Reason.QUOTE_SIGNATURE}


def _seconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())
