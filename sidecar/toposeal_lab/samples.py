"""Single pieces of evidence with all that their verdicts depend on: genuine from a folder, or simulated."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import inspect_tdx_quote
from toposeal.topology.evidence_policy import STRICT, EvidencePolicy, SnpDemand
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.evidence_check import Judgement, Supplied, judge
from toposeal.verification.model import TrustAnchors
from toposeal_lab.simsnp import LabAmd, LabChip, lab_snp_measurements
from toposeal_lab.simtdx import LabHost, LabPki, lab_measurements

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
_NOW = 1_790_000_000
_REPORT_DATA = bytes(range(64))


@dataclass(frozen=True)
class Sample:
    """`supplied` has one collateral object for TDX, and for SNP key, chain and perhaps a list."""

    name: str
    kind: EvidenceKind
    data: bytes
    supplied: Supplied
    anchors: TrustAnchors
    now: int  # Unix seconds
    report_data: bytes  # 64: what is expected

    def verify(self) -> Judgement:
        """The whole verdict, under a policy that admits every product and status `UpToDate` alone."""
        return judge(self.kind, self.data, self.supplied, POLICY, self.report_data, self.anchors, self.now)


def _policy() -> EvidencePolicy:
    """The strict one, with Milan admitted by name: two of three genuine reports are Milan's."""
    snp = STRICT.snp
    if snp is None:
        raise ValueError("the strict policy names both kinds")
    products = {**snp.policy.products, "Milan": snp.policy.products["Genoa"]}
    return replace(STRICT, snp=SnpDemand(replace(snp.policy, products=products), None, None))


POLICY = _policy()


def genuine(folder: Path = VECTORS) -> list[Sample]:
    """Every TDX quote with every collateral of its own, every SNP report; none where there is no folder."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return []
    found: list[Sample] = []
    for entry in json.loads(manifest.read_text()):
        if entry["kind"] == "tdx":
            found += _tdx_samples(folder, entry)
        elif entry["kind"] == "snp":
            found.append(_snp_sample(folder, entry))
    return found


def _tdx_samples(folder: Path, entry: dict[str, Any]) -> list[Sample]:
    place = folder / entry["dir"]
    quote = (place / entry["quote"]).read_bytes()
    return [
        Sample(
            name=f"{entry['name']} {verdict['collateral'].removesuffix('.json')}",
            kind=EvidenceKind.TDX,
            data=quote,
            supplied=Supplied(collateral=((place / verdict["collateral"]).read_bytes(),)),
            anchors=VENDOR_ANCHORS,
            now=verdict["reference_time"],
            report_data=inspect_tdx_quote(quote).report_data,
        )
        for verdict in entry["verdicts"]
        if "collateral" in verdict
    ]


def _snp_sample(folder: Path, entry: dict[str, Any]) -> Sample:
    place = folder / entry["dir"]
    chain = b"".join((folder / part.removeprefix("shared:")).read_bytes() for part in entry["chain"])
    report = (place / entry["report"]).read_bytes()
    return Sample(
        name=entry["name"],
        kind=EvidenceKind.SNP,
        data=report,
        supplied=Supplied(key=(place / entry["leaf"]).read_bytes(), chain=chain),
        anchors=VENDOR_ANCHORS,
        now=entry["reference_time"],
        report_data=parse_snp_report(report).report_data,
    )


def simulated_tdx(pki: LabPki | None = None, name: str = "simulated TDX", **collateral: Any) -> Sample:
    """A quote of a simulated machine; `collateral` are fields of CollateralSpec."""
    vendor = pki or LabPki.create(_NOW)
    quote = LabHost(vendor, bytes(range(16))).quote(_REPORT_DATA, lab_measurements("web", "shop"))
    supplied = Supplied(collateral=(vendor.collateral(**collateral),))
    return Sample(name, EvidenceKind.TDX, quote, supplied, vendor.anchors(), vendor.created, _REPORT_DATA)


def simulated_snp(product: Product, amd: LabAmd | None = None) -> Sample:
    """A report of a simulated chip."""
    vendor = amd or LabAmd.create(product, _NOW)
    chip = LabChip(vendor, bytes(range(1, product.hwid_size + 1)))
    report = chip.report(_REPORT_DATA, lab_snp_measurements("web", "shop"))
    supplied = Supplied(key=chip.certificate, chain=chip.chain, crl=vendor.crl())
    name, roots = f"simulated {product}", vendor.anchors()
    return Sample(name, EvidenceKind.SNP, report, supplied, roots, vendor.created, _REPORT_DATA)
