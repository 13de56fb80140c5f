"""outside.verdict: one decision, two renderings that cannot disagree."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.meshes import build_mesh

from toposeal.errors import Mismatch, PolicyError, Reason, RemoteProtocolError, ToposealError, printable
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.verdict import Verdict, curl_hint
from toposeal.outside.verify import verify_document
from toposeal.verification.model import GpuDevice


@cache
def verified() -> VerifiedMesh:
    mesh = build_mesh()
    return verify_document(mesh.document(answering=3), mesh.request())


def test_json_has_exactly_the_documented_members() -> None:
    found = Verdict(verified(), ("a note",)).as_json()
    assert list(found) == [
        "verified",
        "reasons",
        "mesh",
        "owner_root",
        "topology_version",
        "lineage",
        "epoch",
        "manifest_digest",
        "members",
        "proven",
    ]
    assert (found["verified"], found["reasons"]) == (True, [])
    assert json.loads(json.dumps(found)) == found
    members = found["members"]
    assert isinstance(members, list)
    assert [list(m) for m in members] == [
        ["iid", "role", "tee", "tcb_status", "ca_spki_sha384", "advisories", "platform", "gpus"]
    ] * 4


def test_text_says_the_verdict_first_and_who_is_proven_now() -> None:
    lines = Verdict(verified(), ("a note",)).as_text().splitlines()
    label = verified().proven_now.domain.split(".")[0]
    assert lines[0] == "VERIFIED shop: topology version 3, epoch 1"
    assert lines[1] == f"proven now: 1 member (web {label}); committed to this manifest: 4"
    assert lines[-1] == "note: a note"


def test_text_shows_admitted_advisories_beside_the_status() -> None:
    member = replace(verified().members[0], tcb_status="OutOfDate", advisories=("INTEL-SA-00001",))
    mesh = replace(verified(), members=(member, *verified().members[1:]))
    assert "OutOfDate INTEL-SA-00001" in Verdict(mesh).as_text()


def table(mesh: VerifiedMesh) -> list[list[str]]:
    lines = Verdict(mesh).as_text().split("\n\n")[1].splitlines()
    return [re.split(r" {2,}", line) for line in lines]


def test_the_table_says_who_runs_what_and_what_each_has_proven() -> None:
    header, *rows = table(verified())
    assert header == ["ROLE", "MEMBER", "PROVEN", "TEE", "TCB", "PLATFORM", "ADDRESS"]
    assert [(row[0], row[2]) for row in rows] == [
        ("api", "committed"),
        ("api", "committed"),
        ("db", "committed"),
        ("web", "active now"),
    ]
    assert [row[5] for row in rows] == [member.platform.hex() for member in verified().members]
    every = replace(verified(), proven=verified().members)
    assert [row[2] for row in table(every)[1:]] == ["active now"] * 4


def test_the_table_shows_gpus_and_as_much_of_a_chip_as_tells_it_from_others() -> None:
    gpus = tuple(GpuDevice(model, bytes(32), "1", "1", 0) for model in ("H100", "H100", "NVSwitch"))
    first, second, *others = verified().members
    members = (replace(first, platform=bytes([7]) * 64, gpus=gpus), replace(second, platform=b""), *others)
    header, *rows = table(replace(verified(), members=members))
    assert header[5:] == ["PLATFORM", "GPUS", "ADDRESS"]
    assert rows[0][5:] == ["07" * 16 + "..", "2 H100, 1 NVSwitch", "10.0.0.2"]
    assert rows[1][5:] == ["not shown", "10.0.0.3"]


def test_a_refusal_names_every_mismatch_in_both_renderings() -> None:
    error = PolicyError(
        Mismatch(Reason.TCB_STATUS, "tcb.status", "OutOfDate", "UpToDate"),
        Mismatch(Reason.TCB_ADVISORY, "tcb.advisories", "INTEL-SA-00001", "an admitted advisory"),
        Mismatch(Reason.TCB_ADVISORY, "tcb.advisories", "INTEL-SA-00002", "an admitted advisory"),
    )
    verdict = Verdict(error)
    found = verdict.as_json()
    assert (found["verified"], found["reasons"]) == (False, ["tcb_status", "tcb_advisory"])
    assert found["mismatches"] == [
        {"reason": m.reason.value, "field": m.field, "found": m.found, "expected": m.expected}
        for m in error.mismatches
    ]
    assert verdict.as_text().splitlines() == ["NOT VERIFIED", *(f"  {m}" for m in error.mismatches)]


@given(st.sampled_from(Reason), st.text(max_size=300), st.integers(1, 1 << 53), st.booleans())
def test_C5_text_and_json_never_disagree(reason: Reason, text: str, epoch: int, good: bool) -> None:
    outcome: VerifiedMesh | ToposealError = replace(verified(), epoch=epoch)
    if not good:
        outcome = RemoteProtocolError.of(reason, "field", text, "something else")
    verdict = Verdict(outcome, ())
    shown, found = verdict.as_text(), verdict.as_json()
    assert found["verified"] is good
    assert shown.startswith("VERIFIED ") == good
    assert shown.startswith("NOT VERIFIED") != good
    if good:
        assert f"epoch {found['epoch']}\n" in shown
        digests = [str(found[name]) for name in ("owner_root", "lineage", "manifest_digest")]
        assert all(digest in shown for digest in digests)
    else:
        assert f"[{reason.value}]" in shown


@given(st.text(max_size=200))
def test_C2_nothing_untrusted_reaches_the_terminal_raw(text: str) -> None:
    shown = Verdict(RemoteProtocolError.of(Reason.MALFORMED, "field", text, "x")).as_text()
    assert all(line.isascii() and line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == 1
    assert printable(text) in shown


def test_the_hint_prefers_the_member_that_answered() -> None:
    domain = verified().proven_now.domain
    expected = f"curl --cacert pins.pem --connect-to ::10.0.0.9:8443 https://{domain}:8443/"
    assert curl_hint(verified(), "10.0.0.9", "pins.pem") == expected


def test_the_hint_leaves_the_address_open_when_another_member_has_the_ingress() -> None:
    mesh = replace(verified(), proven=verified().members[:1])
    assert "::HOST:8443 https://" in (curl_hint(mesh, "10.0.0.9", "pins.pem") or "")


@pytest.mark.parametrize("count", [1, 3])
def test_there_is_no_hint_without_an_ingress(count: int) -> None:
    mesh = replace(verified(), proven=verified().members[:1], members=verified().members[:count])
    assert curl_hint(mesh, "10.0.0.9", "pins.pem") is None
