"""Which evidence makes a pod ask for collateral, and where from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.snp import amd, chip
from support.tdx import HOST, NOW, PKI, WEB, evidence

from toposeal._wire.evidence_pb2 import SEV_SNP, TDX, Evidence
from toposeal.daemon.config import Services
from toposeal.daemon.pod_collateral import open_collateral, want_for_own, want_for_peer
from toposeal.errors import Reason, UsageError
from toposeal.evidence.bundle import EMPTY, Bundle
from toposeal.host.collateral_source import CachedSource, Current, FileSource
from toposeal.host.kds import Kds
from toposeal.host.pcs import Pcs
from toposeal.host.vendor_http import Service
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal_lab.simtdx import LabHost, LabPki, QuoteShape

ANCHORS = replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)


class Wishes(FileSource):
    """A source that writes down what it is asked for."""

    def __init__(self) -> None:
        super().__init__(EMPTY)
        self.wanted: list[tuple[bytes, bool]] = []

    def want_tdx(self, fmspc: bytes, own: bool = False) -> None:
        self.wanted.append((fmspc, own))


def wanted(given: Evidence, anchors: Any = ANCHORS) -> list[tuple[bytes, bool]]:
    source = Wishes()
    want_for_peer(given, source, anchors)
    return source.wanted


def test_a_genuine_machine_is_asked_for() -> None:
    assert wanted(evidence()) == [(PKI.fmspc, False)]


def test_R4_a_stranger_has_us_ask_for_nothing() -> None:
    other = LabPki.create(NOW)
    assert wanted(evidence(host=LabHost(other, bytes(16)))) == []
    assert wanted(evidence(), VENDOR_ANCHORS) == []
    chain = LabHost(other, bytes(16)).pck.pem() + PKI.platform_ca.pem() + PKI.root.pem()
    assert wanted(evidence(host=LabHost(PKI, bytes(16), shape=QuoteShape(pck_chain=chain)))) == []
    assert wanted(Evidence(tee=TDX, quote=b"garbage")) == []
    assert wanted(Evidence(tee=SEV_SNP, quote=HOST.quote(bytes(64), WEB))) == []


def test_our_own_machine_never_gives_way() -> None:
    source = Wishes()
    want_for_own(evidence().quote, source)
    want_for_own(b"garbage", source)
    assert source.wanted == [(PKI.fmspc, True)]


def config(folder: Path | None, snp: Any = None, bundle: Bundle = EMPTY) -> Any:
    nowhere = Service("localhost", 9, "")
    services = None
    if folder is not None:
        services = Services(str(folder), Pcs(nowhere, None), Kds(nowhere))
    topology = SimpleNamespace(topology=SimpleNamespace(snp=snp))
    return SimpleNamespace(services=services, collateral=bundle, topology=topology)


def test_without_a_cache_the_file_is_all_there_is() -> None:
    bundle = Bundle(tdx=(PKI.collateral(),))
    source, endorser = open_collateral(config(None, bundle=bundle), ANCHORS)
    assert isinstance(source, FileSource) and source.current() == Current(bundle.tdx)
    assert (endorser.bundle, endorser.cache, endorser.kds) == (bundle, None, None)


def test_with_a_cache_the_lists_of_the_topology_are_wanted(tmp_path: Path) -> None:
    snp = SimpleNamespace(products={"Genoa": None, "Turin": None}, endorsements={"VCEK"})
    source, endorser = open_collateral(config(tmp_path / "cache", snp), ANCHORS)
    assert isinstance(source, CachedSource) and endorser.cache and endorser.kds
    assert set(source._wants) == {"crl Genoa VCEK", "crl Turin VCEK"}
    tdx_alone, _ = open_collateral(config(tmp_path / "other"), ANCHORS)
    assert isinstance(tdx_alone, CachedSource) and not tdx_alone._wants


def test_the_bundle_seeds_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW + 0.5)
    bundle = Bundle(tdx=(PKI.collateral(),), endorsements=(chip().certificate,))
    source, endorser = open_collateral(config(tmp_path / "cache", bundle=bundle), ANCHORS)
    assert json.loads(source.current().tdx[0]) == json.loads(bundle.tdx[0])
    assert endorser.bundle == bundle


def test_E9_a_cache_without_its_marks_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "tdx-000000000000.json").write_bytes(b"{}")
    with pytest.raises(UsageError) as refused:
        open_collateral(config(tmp_path), ANCHORS)
    assert refused.value.reason is Reason.COLLATERAL_ROLLBACK
