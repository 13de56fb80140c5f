"""A simulated vendor, one machine, and a topology that admits what runs on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support import topologies
from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.binding import Binding, Purpose, Status
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology
from toposeal.verification.model import AppraisalContext
from toposeal_lab.simtdx import LabHost, LabPki, TdxMeasurements, lab_measurements

NOW = 1_790_000_000
MESH = "shop"
PPID = bytes(range(16))
PKI = LabPki.create(NOW)
HOST = LabHost(PKI, PPID)
WEB, DB = lab_measurements("web", MESH), lab_measurements("db", MESH)
BINDING = Binding(
    purpose=Purpose.SEAL,
    mesh_id=b"m" * 48,
    topology_digest=b"t" * 48,
    epoch=1,
    manifest_digest=b"d" * 48,
    role="web",
    iid=b"i" * 48,
    anchor=b"h" * 48,
    challenge=bytes(32),
    status=Status.COMMITTED,
)


def topology(
    *,
    web: TdxMeasurements = WEB,
    db: TdxMeasurements = DB,
    platforms: Any = "any",
    rtmr3: Any = None,
    **tdx: Any,
) -> Topology:
    """web and db, each with exactly one reference, and `rtmr3` in both where it is given; keyword
    arguments replace fields of the TDX policy."""
    document = topologies.document()
    document["tdx"] |= {"min_tcb_evaluation": 20, **tdx}
    for name, measured in (("web", web), ("db", db)):
        reference = measured.reference() | ({} if rtmr3 is None else {"rtmr3": rtmr3})
        document["roles"][name] |= {"tdx": [reference], "platforms": platforms}
    return parse_topology(topologies.payload(document))


def context(*collateral: bytes, **overrides: Any) -> AppraisalContext:
    """The lab's anchors at NOW; without `collateral`, the vendor's own with `overrides`."""
    return AppraisalContext(PKI.anchors(), collateral or (PKI.collateral(**overrides),), NOW)


def evidence(binding: Binding = BINDING, measured: TdxMeasurements = WEB, host: LabHost = HOST) -> Evidence:
    """What a genuine member of `measured` would send for `binding`."""
    return Evidence(tee=TDX, quote=host.quote(binding.report_data(), measured))


def quote(host: LabHost = HOST, report_data: bytes = bytes(64), **measured: Any) -> TdxQuote:
    """A parsed quote of `web` with some measured fields replaced."""
    return parse_tdx_quote(host.quote(report_data, replace(WEB, **measured)))


def refusal(call: Any, *arguments: Any) -> Reason:
    """The reason with which `call` refuses; anything else than a typed refusal fails the test."""
    with pytest.raises((EvidenceError, PolicyError)) as refused:
        call(*arguments)
    return refused.value.reason
