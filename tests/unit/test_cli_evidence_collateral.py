"""`toposeal evidence collateral` against the lab's services: one file, and from it a verdict without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.evidence_cli import Run, in_folder
from support.snp import WEB, amd, chip
from support.tdx import HOST, NOW, PKI
from support.tdx import WEB as TDX_WEB
from support.topologies import snp_policy

from toposeal.errors import NetworkError, Reason
from toposeal.evidence import ghcb_table
from toposeal.evidence.bundle import parse_bundle
from toposeal.evidence.snp_certs import KeyKind
from toposeal.host import vendor_http
from toposeal_lab.simsnp import ReportShape, certificate_table
from toposeal_lab.simsnp.pki import der
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service

CHIP, VLEK = chip(), chip(kind=KeyKind.VLEK)
FMSPC = PKI.fmspc.hex()
AT = ("--at", str(NOW))


@pytest.fixture(scope="module")
def running() -> Iterator[VendorService]:
    with vendor_service() as service:
        yield service


@pytest.fixture
def server(running: VendorService, monkeypatch: pytest.MonkeyPatch) -> VendorService:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1)
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    running.answers.clear()
    running.faults.clear()
    running.requests.clear()
    running.serve_tdx(PKI.collateral(), pccs=True)
    running.serve_snp([CHIP, VLEK])
    return running


@pytest.fixture
def run(
    server: VendorService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `toposeal evidence ARGUMENTS` in a folder of evidence, under the lab's roots."""
    files = {
        "quote": HOST.quote(bytes(64), TDX_WEB),
        "report": CHIP.report(bytes(64), WEB),
        "old": CHIP.report(bytes(64), WEB, ReportShape(version=2)),
        "lent": VLEK.report(bytes(64), WEB),
        "vlek": VLEK.certificate,
        "table": certificate_table([(ghcb_table.VLEK, VLEK.certificate), (ghcb_table.ASK, der(amd().asvk))]),
        "text": b"no evidence",
    }
    return in_folder(tmp_path, files, monkeypatch, capsys)


@pytest.fixture
def fetch(run: Run, server: VendorService) -> Run:
    def run_fetch(*arguments: str, out: str = "bundle.json") -> tuple[int, str, str]:
        at = ("--pccs", server.url, "--kds", server.url, "--ca", server.ca_file)
        return run("collateral", "fetch", *at, *arguments, "-o", out)

    return run_fetch


def test_one_file_verifies_both_kinds_without_a_network(run: Run, fetch: Run, server: VendorService) -> None:
    code, out, err = fetch("--for", "quote", "--for", "report")
    assert (code, err) == (0, "")
    assert out.startswith(f"tdx {FMSPC}\n") and "\nsnp VCEK Genoa\n" in out
    assert "2026-10-21T14:13:20Z" in out
    server.requests.clear()
    for name in ("quote", "report"):
        code, out, err = run("verify", name, "--collateral", "bundle.json", *AT, "--json")
        verdict = json.loads(out)
        assert (code, err, verdict["authentic"], verdict["acceptable"]) == (0, "", True, True)
    assert server.requests == []


def test_the_list_in_the_bundle_counts(run: Run, fetch: Run, server: VendorService) -> None:
    server.serve_snp([CHIP], amd().crl(revoked=(amd().ask,)))
    assert fetch("--for", "report")[0] == 0
    code, out, _ = run("verify", "report", "--collateral", "bundle.json", *AT, "--json")
    assert (code, json.loads(out)["reasons"][0][-9:]) == (2, "[revoked]")


def test_what_is_given_by_itself_goes_before_the_bundle(run: Run, fetch: Run) -> None:
    assert fetch("--for", "report")[0] == 0
    assert run("verify", "report", "--collateral", "bundle.json", "--vcek", "vlek", *AT)[0] == 2
    assert run("verify", "lent", "--collateral", "bundle.json", *AT)[0] == 2


def test_a_platform_family_or_a_product_is_enough(fetch: Run) -> None:
    assert fetch("--fmspc", FMSPC.upper(), "--fmspc", FMSPC, "--product", "Genoa")[0] == 0
    bundle = parse_bundle(Path("bundle.json").read_bytes())
    assert (len(bundle.tdx), len(bundle.endorsements), len(bundle.chains), len(bundle.crls)) == (1, 0, 1, 1)


def test_the_bundle_of_a_product_serves_a_key_of_the_callers(
    run: Run, fetch: Run, server: VendorService, tmp_path: Path
) -> None:
    (tmp_path / "vcek").write_bytes(CHIP.certificate)
    (tmp_path / "chain").write_bytes(CHIP.chain)
    demand = {"policy": snp_policy(crl="required"), "references": "any", "platforms": "any"}
    (tmp_path / "policy").write_text(json.dumps({"snp": demand}))
    assert fetch("--product", "Genoa")[0] == 0
    given = ("--vcek", "vcek", "--collateral", "bundle.json", *AT, "--policy", "policy")
    assert run("verify", "report", *given)[0] == 0
    server.serve_snp([CHIP], amd().crl(revoked=(amd().ask,)))
    assert fetch("--product", "Genoa", out="revoking.json")[0] == 0
    for chain in ((), ("--chain", "chain")):
        given = ("--vcek", "vcek", *chain, "--collateral", "revoking.json", *AT, "--json")
        code, out, _ = run("verify", "report", *given)
        assert (code, json.loads(out)["reasons"][0][-9:]) == (2, "[revoked]")


def test_a_report_of_version_2_needs_the_product(run: Run, fetch: Run) -> None:
    assert fetch("--for", "old")[0] == 2
    assert fetch("--for", "old", "--product", "Genoa")[0] == 0
    assert run("verify", "old", "--collateral", "bundle.json", *AT)[0] == 0


@pytest.mark.parametrize("given", [("--vcek", "vlek"), ("--table", "table")])
def test_a_vlek_is_the_callers_to_give(run: Run, fetch: Run, tmp_path: Path, given: tuple[str, str]) -> None:
    (tmp_path / "policy").write_text("{}")
    assert fetch("--for", "lent")[0] == 2
    assert fetch("--for", "lent", *given)[0] == 0
    out = run("verify", "lent", "--collateral", "bundle.json", *AT, "--json")[1]
    assert json.loads(out)["authentic"] is True


def test_show_prints_the_same_and_json(run: Run, fetch: Run) -> None:
    printed = fetch("--for", "quote", "--for", "report")[1]
    assert run("collateral", "show", "bundle.json")[1] == printed
    facts = json.loads(run("collateral", "show", "bundle.json", "--json")[1])
    tdx = facts["tdx"][0]
    assert (tdx["fmspc"], tdx["enclaveIdentity.tcbEvaluationDataNumber"], tdx["tcbLevels"]) == (FMSPC, 20, 1)
    assert [each["part"] for each in facts["snp"]] == ["VCEK Genoa", "chain SEV-Genoa", "revocation list"]


def test_C3_nothing_is_overwritten(fetch: Run) -> None:
    assert fetch("--for", "quote")[0] == 0
    before = Path("bundle.json").read_bytes()
    assert fetch("--for", "report")[0] == 1
    assert Path("bundle.json").read_bytes() == before


NEWEST = f"{'tcbInfo.tcbEvaluationDataNumber':<39} 21"


def test_E9_fault_14_the_cache_remembers_the_newest_and_stands_in_for_the_network(
    run: Run, fetch: Run, server: VendorService
) -> None:
    cached = ("--for", "quote", "--for", "report", "--cache", "cache")
    server.serve_tdx(PKI.collateral(evaluation=21), pccs=True)
    assert fetch(*cached)[0] == 0
    server.serve_tdx(PKI.collateral(evaluation=20), pccs=True)
    code, out, err = fetch(*cached, out="second.json")
    assert (code, NEWEST in out, "collateral_rollback" in err) == (0, True, True)
    server.faults["/"] = Fault(status=503)
    code, out, err = fetch(*cached, out="third.json")
    assert (code, NEWEST in out, err.count("[network]")) == (0, True, 2)
    assert run("verify", "quote", "--collateral", "third.json", *AT)[0] == 0
    assert fetch("--for", "quote", out="fourth.json")[0] == 3
    assert fetch("--fmspc", "00" * 6, "--cache", "cache", out="fifth.json")[0] == 3


def test_E9_without_a_cached_one_older_collateral_is_exit_2(fetch: Run, server: VendorService) -> None:
    server.serve_tdx(PKI.collateral(evaluation=21), pccs=True)
    assert fetch("--for", "quote", "--cache", "cache")[0] == 0
    Path(f"cache/tdx-{FMSPC}.json").write_bytes(b"damage")
    server.serve_tdx(PKI.collateral(evaluation=20), pccs=True)
    code, _, err = fetch("--for", "quote", "--cache", "cache", out="second.json")
    assert (code, "collateral_rollback" in err, Path("second.json").exists()) == (2, True, False)


def test_E10_answers_that_do_not_hold_are_written_nowhere(fetch: Run, server: VendorService) -> None:
    server.serve_tdx(PKI.collateral(parts={"qe_identity_signature": "00" * 64}), pccs=True)
    code, _, err = fetch("--for", "quote")
    assert (code, "collateral_signer" in err, Path("bundle.json").exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1),
        (("--for", "nowhere"), 1),
        (("--for", "text"), 2),
        (("--fmspc", "00"), 1),
        (("--fmspc", "zz" * 6), 1),
        (("--for", "report", "--vcek", "text"), 1),
        (("--for", "report", "--table", "nowhere"), 1),
        (("--pccs", "http://pccs", "--fmspc", FMSPC), 1),
        (("--ca", "text", "--fmspc", FMSPC), 1),
        (tuple(word for number in range(17) for word in ("--fmspc", f"{number:012x}")), 1),
    ],
)
def test_V9_arguments_that_cannot_be_meant(fetch: Run, arguments: tuple[str, ...], code: int) -> None:
    found, out, err = fetch(*arguments)
    assert (found, out, err.startswith("toposeal: ")) == (code, "", True)


def test_V9_roots_of_no_service_are_a_mistake(
    run: Run, server: VendorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intel's and AMD's own services are verified by the system's roots, whatever a file says."""
    monkeypatch.setattr(vendor_http, "get", unreachable)
    given = ("collateral", "fetch", "--fmspc", FMSPC, "--ca", server.ca_file, "-o", "bundle.json")
    code, out, err = run(*given)
    assert (code, out, "--ca" in err) == (1, "", True)
    assert run(*given, "--pccs", server.url)[0] == run(*given, "--kds", server.url)[0] == 3


def unreachable(service: vendor_http.Service, target: str) -> None:
    raise NetworkError.of(Reason.NETWORK, "http", "nobody", "an answer")


def test_without_tenacity_the_installation_is_told_apart_from_the_network(
    fetch: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = fetch("--fmspc", FMSPC)
    assert (code, "toposeal[collateral]" in err) == (1, True)


def test_show_of_something_else_is_exit_1(run: Run) -> None:
    code, out, err = run("collateral", "show", "text")
    assert (code, out, err.startswith("toposeal: ")) == (1, "", True)


def test_the_vendors_own_services_are_asked_by_default(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def record(service: vendor_http.Service, target: str) -> None:
        asked.append(f"{service.authority}{target}")
        raise NetworkError.of(Reason.NETWORK, "http", "nobody", "an answer")

    monkeypatch.setattr(vendor_http, "get", record)
    assert run("collateral", "fetch", "--for", "quote", "-o", "x")[0] == 3
    assert run("collateral", "fetch", "--for", "report", "-o", "x")[0] == 3
    assert asked[0] == "api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=50696D000001"
    assert asked[1].startswith("kdsintf.amd.com/vcek/v1/Genoa/0102")


@pytest.mark.parametrize(
    ("spoilt", "field"),
    [
        ({"snp": {"crls": ["00"]}}, "crl before 1"),
        ({"snp": {"crls": ["zz"]}}, "bundle.snp.crls"),
        ({"snp": {"endorsements": ["x"]}}, "endorsement before 1"),
        ({"snp": {"more": []}}, "bundle.snp"),
        ({"more": []}, "bundle"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "policy"])
def test_a_bundle_with_one_bad_part_is_refused_for_that_part(
    run: Run, tmp_path: Path, command: str, spoilt: dict[str, object], field: str
) -> None:
    """Not read again as if it were collateral of Intel's alone: what is in it would be left out unsaid."""
    (tmp_path / "bad.json").write_text(json.dumps({"tdx": [json.loads(PKI.collateral())], **spoilt}))
    code, out, err = run(command, "quote", "--collateral", "bad.json", *AT)
    assert (code, out) == (1, "")
    assert err.startswith(f"toposeal: {field}: ")


def test_E10_a_bundle_with_a_bad_list_is_not_left_out_beside_certificates(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vcek").write_bytes(CHIP.certificate)
    (tmp_path / "chain").write_bytes(CHIP.chain)
    revoking = amd().crl(revoked=(amd().ask,)).hex()
    given = ("report", "--vcek", "vcek", "--chain", "chain", "--collateral", "lists.json", *AT)
    for lists in ([revoking, "00"], ["00"]):
        (tmp_path / "lists.json").write_text(json.dumps({"snp": {"crls": lists}}))
        code, out, err = run("verify", *given)
        assert (code, out) == (1, "")
        assert err.startswith("toposeal: crl before 1: ")
