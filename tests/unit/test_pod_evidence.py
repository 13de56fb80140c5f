"""A pod's own evidence through a real file system: what each kind carries, and what vouches for it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.snp import WEB as SNP_WEB
from support.snp import chip
from support.tdx import BINDING, HOST, NOW, WEB, topology
from support.tsm import served

from toposeal._wire.evidence_pb2 import SEV_SNP, TDX
from toposeal.daemon.pod_evidence import PodEvidence
from toposeal.daemon.runtime_events import RuntimeEvents, demands_instance
from toposeal.encoding import encode
from toposeal.errors import EvidenceError, PodError, Reason
from toposeal.evidence.auxiliary import read_gpus
from toposeal.evidence.binding import Binding, gpu_binding, gpu_nonce, join_binding
from toposeal.evidence.bundle import EMPTY, Bundle, SnpChain
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.rtmr import instance_event, replay
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.collateral_source import FileSource
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.endorsements import Endorser
from toposeal.host.rtmr import Rtmr3
from toposeal.kubernetes.initdata import FIELDS, Initdata, PodIdentity, build
from toposeal.limits import COLLATERAL_WAIT
from toposeal.topology.model import InstanceRegister, Platforms, Role
from toposeal_lab.measurements_fs import FOLDER
from toposeal_lab.simsnp import HostTable, host_table
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Faults
from toposeal_lab.tsm_providers import SnpProvider, TdxProvider

IID = b"i" * 48
JOIN = join_binding(b"m" * 48, "web", IID, b"d" * 48)
IDENTITY = PodIdentity(b"{}", "shop", "web", 1)
TOLD = {kind: build(kind, IDENTITY, {}) for kind in FIELDS}
TABLE = host_table(chip(), HostTable.FULL)
REGISTER = InstanceRegister(bytes(48), frozenset())


@pytest.fixture(scope="module")
def tsm() -> Iterator[Path]:
    directories = {
        "tdx": ReportDirectory(TdxProvider(HOST, WEB), Faults()),
        "logged": ReportDirectory(TdxProvider(HOST, WEB), Faults()),
        "snp": ReportDirectory(SnpProvider(chip(), SNP_WEB, TABLE), Faults()),
        "told-tdx": ReportDirectory(TdxProvider(HOST, replace(WEB, mrconfigid=TOLD["tdx"].digest)), Faults()),
        "told-snp": ReportDirectory(
            SnpProvider(chip(), replace(SNP_WEB, host_data=TOLD["snp"].digest), TABLE), Faults()
        ),
        "other-tdx": ReportDirectory(
            TdxProvider(HOST, replace(WEB, mrconfigid=TOLD["snp"].digest + bytes(16))), Faults()
        ),
        "other-snp": ReportDirectory(
            SnpProvider(chip(), replace(SNP_WEB, host_data=TOLD["tdx"].digest[:32]), TABLE), Faults()
        ),
        "bare": ReportDirectory(SnpProvider(chip(), SNP_WEB, b""), Faults()),
    }
    with served(directories) as mountpoint:
        yield mountpoint


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: float(NOW))


class NoGpus:
    def collect(self, nonce: bytes, deadline_s: float) -> tuple[GpuEvidence, ...]:
        return ()


class Settling(FileSource):
    """Remembers how long it was waited for, in seconds."""

    def __init__(self) -> None:
        super().__init__(EMPTY)
        self.waits: list[float] = []

    def settle(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)


class OneGpu:
    """Answers every nonce, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def collect(self, nonce: bytes, deadline_s: float) -> tuple[GpuEvidence, ...]:
        self.asked.append(nonce)
        return (GpuEvidence(b"report", b"chain"),)


def role(rtmr3: InstanceRegister | bytes | None) -> Role:
    reference = replace(topology().roles["web"].tdx[0], rtmr3=rtmr3)
    return Role("web", 1, 1, (reference,), (), Platforms(None, None), None, (), (), ())


def pod(
    tsm: Path,
    name: str,
    *,
    endorser: Endorser | None = None,
    gpus: OneGpu | None = None,
    log: str | None = None,
    initdata: Initdata | None = None,
    collateral: FileSource | None = None,
) -> PodEvidence:
    events = RuntimeEvents(Rtmr3(str(tsm / FOLDER / name)), log)
    source = endorser or Endorser(chip().vendor.anchors())
    tee = ConfigfsTsm(str(tsm / name))
    return PodEvidence(tee, source, gpus or NoGpus(), events, collateral=collateral, initdata=initdata)


def test_tdx_evidence_is_the_quote_alone(tsm: Path) -> None:
    found = pod(tsm, "tdx").quote(BINDING, 5)
    assert found.tee == TDX
    assert parse_tdx_quote(found.quote).report_data == BINDING.report_data()
    assert not (found.endorsement or found.endorsement_ca or found.rtmr3_events or found.gpus)


def test_snp_evidence_carries_what_the_hosts_table_has(tsm: Path) -> None:
    found = pod(tsm, "snp").quote(BINDING, 5)
    assert (found.tee, len(found.quote)) == (SEV_SNP, 1184)
    assert found.endorsement == chip().certificate
    assert found.endorsement_ca and not (found.rtmr3_events or found.gpus)


def test_fault_13_without_a_table_the_owners_bundle_vouches(tsm: Path) -> None:
    bundle = Bundle(endorsements=(chip().certificate,), chains=(SnpChain(chip().chain, "SEV-Genoa"),))
    source = pod(tsm, "bare", endorser=Endorser(chip().vendor.anchors(), bundle))
    first, again = source.quote(BINDING, 5), source.quote(BINDING, 5)
    assert first.endorsement == again.endorsement == chip().certificate
    assert first.endorsement_ca == again.endorsement_ca != b""


def test_fault_13_without_anything_that_vouches_there_is_no_evidence(tsm: Path) -> None:
    with pytest.raises(EvidenceError) as refused:
        pod(tsm, "bare").quote(BINDING, 5)
    assert refused.value.reason is Reason.COLLATERAL_MISSING


def test_E18_gpus_are_asked_with_join_alone_and_with_the_identitys_nonce(tsm: Path) -> None:
    gpus = OneGpu()
    source = pod(tsm, "tdx", gpus=gpus)
    assert not source.quote(BINDING, 5).gpus and not gpus.asked
    found = source.quote(JOIN, 5)
    assert read_gpus(found.gpus, "gpus") == (GpuEvidence(b"report", b"chain"),)
    wanted: Binding = gpu_binding(JOIN.mesh_id, JOIN.role, JOIN.iid, JOIN.anchor)
    assert gpus.asked == [gpu_nonce(wanted)]
    assert encode(found) != encode(source.quote(BINDING, 5))


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_collateral_is_waited_for_with_join_alone(tsm: Path, kind: str) -> None:
    source = Settling()
    found = pod(tsm, kind, collateral=source)
    found.quote(BINDING, 5)
    assert source.waits == []
    found.quote(JOIN, 5)
    assert source.waits == [COLLATERAL_WAIT / 1000]


@pytest.mark.parametrize("rtmr3", [None, bytes(48)], ids=["any", "fixed"])
def test_a_register_that_no_reference_asks_for_is_left_alone(tsm: Path, rtmr3: bytes | None) -> None:
    source = pod(tsm, "tdx")
    source.prepare(IID, role(rtmr3))
    assert parse_tdx_quote(source.quote(BINDING, 5).quote).rtmr3 == WEB.rtmr[3]


def test_the_register_names_the_instance_among_what_the_guest_logs(tsm: Path, tmp_path: Path) -> None:
    """One event of the guest's before ours, one after: verifiers get all three in order."""
    log, register = tmp_path / "log", Rtmr3(str(tsm / FOLDER / "logged"))
    source = pod(tsm, "logged", log=str(log))
    before, after = (dstack_event(name) for name in ("before", "after"))
    extend_register(tsm, before[1])
    log.write_text(f"[{before[0]}]")
    source.prepare(IID, role(REGISTER))
    assert register.read() == replay(WEB.rtmr[3], (before[1], instance_event(IID)))
    extend_register(tsm, after[1])
    log.write_text(f"[{before[0]},{after[0]}]")
    found = source.quote(BINDING, 5)
    assert tuple(found.rtmr3_events) == (before[1], instance_event(IID), after[1])
    assert parse_tdx_quote(found.quote).rtmr3 == replay(WEB.rtmr[3], found.rtmr3_events)
    with pytest.raises(PodError) as refused:
        source.prepare(IID, role(REGISTER))
    assert refused.value.reason is Reason.RTMR_EXTEND
    log.write_text("nonsense")
    with pytest.raises(PodError):
        source.quote(BINDING, 5)


def test_a_guest_without_the_register_goes_on(tsm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = pod(tsm, "snp")
    source.prepare(IID, role(REGISTER))
    assert '"event": "rtmr3", "state": "absent"' in capfd.readouterr().out
    assert not source.quote(BINDING, 5).rtmr3_events


def test_only_a_reference_that_names_the_instance_demands_it() -> None:
    assert demands_instance(role(REGISTER))
    assert not demands_instance(role(None)) and not demands_instance(role(bytes(48)))


def extend_register(tsm: Path, digest: bytes) -> None:
    file = os.open(tsm / FOLDER / "logged" / "rtmr3:sha384", os.O_WRONLY)
    try:
        os.write(file, digest)
    finally:
        os.close(file)


def dstack_event(name: str) -> tuple[str, bytes]:
    """One entry of dstack's log in JSON, and its digest."""
    kind, payload = 0x08000001, b"payload"
    digest = hashlib.sha384(kind.to_bytes(4, "little") + b":" + name.encode() + b":" + payload).digest()
    entry = {
        "imr": 3,
        "event_type": kind,
        "digest": digest.hex(),
        "event": name,
        "event_payload": payload.hex(),
    }
    return json.dumps(entry), digest


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_E5_T11_initdata_that_the_hardware_does_not_vouch_for_gets_no_evidence(tsm: Path, kind: str) -> None:
    assert pod(tsm, f"told-{kind}", initdata=TOLD[kind]).quote(JOIN, 5).quote
    with pytest.raises(PodError) as refused:
        pod(tsm, kind, initdata=TOLD[kind]).quote(JOIN, 5)
    assert refused.value.reason is Reason.CONFIG_DIGEST
    assert refused.value.mismatches[0].field == FIELDS[kind]
    assert TOLD[kind].digest.hex() in refused.value.mismatches[0].expected


def test_E5_a_digest_that_does_not_fill_the_field_is_none(tsm: Path) -> None:
    """What CoCo would pad to 48 bytes, or cut to 32."""
    for kind, other in (("tdx", "snp"), ("snp", "tdx")):
        with pytest.raises(PodError):
            pod(tsm, f"other-{kind}", initdata=TOLD[other]).quote(JOIN, 5)
