"""What every verifier is asked: genuine evidence, and simulated evidence with one thing wrong at a time."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.serialization import Encoding

from toposeal.evidence.amd_x509 import split_certificates
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.topology.evidence_policy import EvidencePolicy, SnpDemand
from toposeal.verification.evidence_check import Judgement, Supplied, judge
from toposeal.verification.model import TrustAnchors
from toposeal_lab.samples import POLICY, genuine
from toposeal_lab.simsnp import LabAmd, LabChip, ReportShape, SnpMeasurements, lab_snp_measurements
from toposeal_lab.simsnp import pki as amd_pki
from toposeal_lab.simsnp.chip import default_tcb
from toposeal_lab.simtdx import LabHost, LabPki, QuoteShape, TdxMeasurements, lab_measurements

NOW = 1_790_000_000
DAY = 86_400
PPID = bytes(range(16))
REPORT_DATA = bytes(range(64))
SEED = 20_260_101
FLIPS = 150  # of single bits, per kind
ROUNDS = 60  # of measurement, for genuine evidence
_FMSPC = bytes.fromhex("506900000001")  # without letters, whose case go-tdx-guest compares
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384_ORDER = int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)


@dataclass(frozen=True)
class Case:
    """One piece of evidence with all that its verdict depends on. Certificates are DER."""

    name: str
    kind: EvidenceKind
    evidence: bytes
    now: int  # Unix seconds
    root: bytes
    collateral: bytes = b""  # TDX: QuoteCollateralV3, JSON
    key: bytes = b""  # SNP, as are the next two
    ca: bytes = b""
    crl: bytes = b""
    rounds: int = 0  # of measurement

    def verify(self) -> Judgement:
        """Ours, under POLICY with VLEKs admitted; report_data is nobody's question here."""
        chain = b"".join(amd_pki.pem(each) for each in (self.ca, self.root))
        if self.kind is EvidenceKind.TDX:
            supplied, anchors = Supplied(collateral=(self.collateral,)), TrustAnchors(self.root)
        else:
            supplied = Supplied(key=self.key, chain=chain, crl=self.crl or None)
            anchors = TrustAnchors(b"", (self.root,))
        return judge(self.kind, self.evidence, supplied, _POLICY, None, anchors, self.now)

    def dump(self) -> dict[str, object]:
        """For the programs of other languages."""
        binary = {name: getattr(self, name) for name in ("evidence", "root", "key", "ca", "crl")}
        return {
            "name": self.name,
            "kind": str(self.kind),
            "now": self.now,
            "rounds": self.rounds,
            "collateral": json.loads(self.collateral) if self.collateral else None,
            **{name: base64.b64encode(value).decode() for name, value in binary.items()},
        }


def _policy() -> EvidencePolicy:
    if POLICY.snp is None:
        raise ValueError("the samples' policy names both kinds")
    admitting = replace(POLICY.snp.policy, endorsements=frozenset({"VCEK", "VLEK"}))
    return replace(POLICY, snp=SnpDemand(admitting, None, None))


_POLICY = _policy()


def all_cases() -> list[Case]:
    """Every case once; simulated keys are fresh, names and changes are the same in every run."""
    return [*_genuine(), *_tdx(), *_snp()]


def _genuine() -> Iterator[Case]:
    for sample in genuine():
        case = Case(f"genuine/{sample.name}", sample.kind, sample.data, sample.now, b"", rounds=ROUNDS)
        supplied = sample.supplied
        if sample.kind is EvidenceKind.TDX:
            root = sample.anchors.intel_sgx_root_ca
            yield replace(case, root=root, collateral=supplied.collateral[0])
        else:
            ca, root = split_certificates(supplied.chain or b"", "chain")
            yield replace(case, key=supplied.key or b"", ca=ca, root=root)


def _tdx() -> Iterator[Case]:
    pki = replace(LabPki.create(NOW), fmspc=_FMSPC)
    host, web = LabHost(pki, PPID), lab_measurements("web", "shop")
    quote = host.quote(REPORT_DATA, web)
    good = Case("tdx/good", EvidenceKind.TDX, quote, NOW, pki.root_der, pki.collateral())
    yield good
    chain = quote.index(b"-----BEGIN")
    parts = {"signed": len(parse_tdx_quote(quote).signed), "keys": chain, "chain": len(quote)}
    yield from _flipped(good, "tdx", parts)
    yield from _tdx_wholes(good)
    for name, measured in _tdx_guests(web):
        yield replace(good, name=f"tdx/guest {name}", evidence=host.quote(REPORT_DATA, measured))
    for name, shape in _TDX_SHAPES.items():
        shaped = LabHost(pki, PPID, shape=shape).quote(REPORT_DATA, web)
        yield replace(good, name=f"tdx/shape {name}", evidence=shaped)
    for name, changes in _tdx_collateral(pki, host).items():
        yield replace(good, name=f"tdx/collateral {name}", collateral=pki.collateral(**changes))


def _flipped(good: Case, kind: str, parts: Mapping[str, int]) -> Iterator[Case]:
    """Single bits of the evidence; `parts` are the ends of what a name says about a position."""
    draw = random.Random(SEED)
    for position in sorted(draw.sample(range(len(good.evidence)), FLIPS)):
        changed = bytearray(good.evidence)
        changed[position] ^= 1 << draw.randrange(8)
        part = next(name for name, end in parts.items() if position < end)
        yield replace(good, name=f"{kind}/flip {part} {position}", evidence=bytes(changed))


def _tdx_wholes(good: Case) -> Iterator[Case]:
    quote = parse_tdx_quote(good.evidence)
    r, s = quote.auth.signature[:32], int.from_bytes(quote.auth.signature[32:], "big")
    other = r + (P256_ORDER - s).to_bytes(32, "big")
    wholes = {
        "padded with zeros": good.evidence + bytes(3000),
        "followed by text": good.evidence + b"text",
        "cut by one byte": good.evidence[:-1],
        "cut in half": good.evidence[: len(good.evidence) // 2],
        "other form of the signature": good.evidence.replace(quote.auth.signature, other),
    }
    for name, evidence in wholes.items():
        yield replace(good, name=f"tdx/whole {name}", evidence=evidence)
    yield replace(good, name="tdx/root another", root=LabPki.create(NOW).root_der)
    for name, days in (("before", -3), ("after", 40), ("years after", 4000)):
        yield replace(good, name=f"tdx/time {name}", now=NOW + days * DAY)


def _tdx_guests(web: TdxMeasurements) -> Iterator[tuple[str, TdxMeasurements]]:
    sept_ve_disable = 1 << 28
    bits = {"DEBUG": 0, "PERF_PROF": 4, "LASS": 27, "MIGRATABLE": 29, "PKS": 30, "KL": 31, "PERFMON": 63}
    for name, bit in bits.items():
        yield name, replace(web, td_attributes=(sept_ve_disable | 1 << bit).to_bytes(8, "little"))
    yield "without SEPT_VE_DISABLE", replace(web, td_attributes=bytes(8))
    yield "older module", replace(web, tee_tcb_svn=bytes([4, 1, 6]) + bytes(13))
    yield "below every level", replace(web, tee_tcb_svn=bytes([5, 1, 5]) + bytes(13))
    yield "of an unknown module", replace(web, tee_tcb_svn=bytes([5, 9, 6]) + bytes(13))
    yield "MRSIGNERSEAM", replace(web, mrsignerseam=b"\1" * 48)
    yield "SEAM attributes", replace(web, seam_attributes=b"\1" + bytes(7))
    yield "XFAM without the fixed bits", replace(web, xfam=bytes(8))


_TDX_SHAPES: Mapping[str, QuoteShape] = {
    "version 5, TD 1.0": QuoteShape(version=5, body_type=2),
    "version 5, TD 1.5": QuoteShape(version=5, body_type=3),
    "version 5, TD 1.5 extended": QuoteShape(version=5, body_type=4),
    "version 5, size of another type": QuoteShape(version=5, body_type=3, body_size=584),
    "version 5, service TD": QuoteShape(version=5, body_type=3, later={"mrservicetd": b"\1" * 48}),
    "version 5, older module running": QuoteShape(
        version=5, body_type=3, later={"tee_tcb_svn2": bytes([4, 1, 6]) + bytes(13)}
    ),
    "version 3": QuoteShape(version=3),
    "TEE type SGX": QuoteShape(tee_type=0),
    "key type 3": QuoteShape(key_type=3),
    "reserved bytes": QuoteShape(reserved=1),
    "another vendor": QuoteShape(vendor=bytes(16)),
    "outer certification 7": QuoteShape(outer_certification=7),
    "inner certification 4": QuoteShape(inner_certification=4),
    "QE report tail": QuoteShape(qe_report_tail=b"\1" * 32),
}


def _tdx_collateral(pki: LabPki, host: LabHost) -> dict[str, dict[str, Any]]:
    old, pck = LabPki.create(NOW), host.pck
    statuses = (
        *("OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"),
        *("OutOfDateConfigurationNeeded", "Revoked"),
    )
    return {
        **{f"platform {status}": {"status": status} for status in statuses},
        **{f"module {status}": {"module_status": status} for status in statuses},
        **{f"quoting enclave {status}": {"qe_status": status} for status in statuses},
        "advisory": {"advisories": ("INTEL-SA-00001",)},
        "PCK revoked": {"revoked": (pck.certificate,)},
        "platform CA revoked": {"revoked": (pki.platform_ca.certificate,)},
        "TCB signer revoked": {"revoked": (pki.tcb_signing.certificate,)},
        "TCB info signed by a PCK": {"tcb_signer": (pck, pki.root)},
        "TCB info signed by the platform CA": {"tcb_signer": (pki.platform_ca, pki.root)},
        "QE identity signed by a PCK": {"qe_signer": (pck, pki.root)},
        "TCB info of another vendor": {"tcb_signer": (old.tcb_signing, old.root)},
        "FMSPC of another platform": {"tcb": {"fmspc": "00" * 6}},
        "PCEID of another platform": {"tcb": {"pceId": "0001"}},
        "SGX instead of TDX": {"tcb": {"id": "SGX"}},
        "TCB info version 2": {"tcb": {"version": 2}},
        "QE instead of TD_QE": {"qe": {"id": "QE"}},
        "QE signer": {"qe": {"mrsigner": "00" * 32}},
        "QE product": {"qe": {"isvprodid": 1}},
        "QE attributes": {"qe": {"attributes": "13" + "00" * 15}},
        "QE below every level": {"qe": {"tcbLevels": []}},
        "evaluation numbers differ": {"qe": {"tcbEvaluationDataNumber": 19}},
        "expired TCB info": {"tcb": {"nextUpdate": "2026-09-01T00:00:00Z"}},
        "TCB info of the future": {"tcb": {"issueDate": "2026-12-01T00:00:00Z"}},
        "no TCB level": {"tcb": {"tcbLevels": []}},
        "root list in the PCK list's place": {"parts": {"pck_crl": pki.crl(pki.root).hex()}},
        "list by another key": {"parts": {"root_ca_crl": pki.crl(pki.root, signer=pki.tcb_signing).hex()}},
    }


def _snp() -> Iterator[Case]:
    # Verifiers compare the whole subject, in which the lab otherwise says that it is simulated.
    with mock.patch.object(amd_pki, "ORGANIZATION", "Advanced Micro Devices"):
        for product in Product:
            yield from _snp_product(LabAmd.create(product, NOW))


def _snp_product(vendor: LabAmd) -> Iterator[Case]:
    product = vendor.product
    chips = {kind: LabChip(vendor, bytes(range(1, product.hwid_size + 1)), kind) for kind in KeyKind}
    guest = lab_snp_measurements("web", "shop")
    for kind, chip in chips.items():
        report = chip.report(REPORT_DATA, guest)
        ca = vendor.ask if kind is KeyKind.VCEK else vendor.asvk
        good = Case(
            name=f"snp/{product} {kind} good",
            kind=EvidenceKind.SNP,
            evidence=report,
            now=NOW,
            root=vendor.ark.public_bytes(Encoding.DER),
            key=chip.certificate,
            ca=ca.public_bytes(Encoding.DER),
            crl=vendor.crl(),
        )
        yield good
        if (product, kind) == (Product.GENOA, KeyKind.VCEK):
            yield from _flipped(good, "snp", {"signed": 0x2A0, "signature": len(report)})
        yield from _snp_changes(good, chip, chips, guest)


def _snp_changes(
    good: Case, chip: LabChip, chips: Mapping[KeyKind, LabChip], guest: SnpMeasurements
) -> Iterator[Case]:
    vendor, tcb = chip.vendor, default_tcb(chip.vendor.product)
    prefix = good.name.removesuffix(" good")
    lower, other = replace(tcb, snp=tcb.snp - 1), next(each for each in chips.values() if each is not chip)
    shapes = {
        "masked chip": ReportShape(mask_chip_id=True),
        "reported TCB lowered": ReportShape(reported=lower),
        "reported TCB above current": ReportShape(current=lower),
        "committed TCB below current": ReportShape(committed=lower),
        "committed TCB above current": ReportShape(committed=replace(tcb, snp=tcb.snp + 1)),
        "launch TCB lowered": ReportShape(launch=lower),
        "aliases not checked": ReportShape(platform_info=0x05),
        "unknown platform state": ReportShape(platform_info=0x25 | 1 << 20),
        "signing key 7": ReportShape(key_info=7 << 2),
        "reserved bits of key_info": ReportShape(key_info=1 << 8),
        "another CPU": ReportShape(cpuid=(0x19, 0x01, 0) if vendor.product != "Milan" else (0x19, 0x11, 0)),
        "an unknown CPU": ReportShape(cpuid=(0x1B, 0, 0)),
        "reserved at 0x4c": ReportShape(patches={0x4C: b"\1"}),
        "reserved at 0x208": ReportShape(patches={0x208: b"\1"}),
        "signature tail": ReportShape(patches={0x2D0: b"\1"}),
        "after the signature": ReportShape(patches={0x330: b"\1"}),
        "algorithm 2": ReportShape(patches={0x34: b"\2"}),
        **{f"version {number}": ReportShape(version=number) for number in (1, 2, 3, 4, 5, 6)},
    }
    for name, shape in shapes.items():
        yield replace(good, name=f"{prefix} {name}", evidence=chip.report(REPORT_DATA, guest, shape))
    bits = {"SMT off": 0, "MIGRATE_MA": 1 << 18, "DEBUG": 1 << 19, "CXL": 1 << 21, "bit 25": 1 << 25}
    bits |= {"an unknown policy bit": 1 << 30, "ABI 1.51": 51 | 1 << 8}
    for name, bit in bits.items():
        policy = 1 << 17 | bit | (0 if name == "SMT off" else 1 << 16)
        evidence = chip.report(REPORT_DATA, replace(guest, policy=policy))
        yield replace(good, name=f"{prefix} policy {name}", evidence=evidence)
    for name, changed in _snp_guests(guest).items():
        yield replace(good, name=f"{prefix} {name}", evidence=chip.report(REPORT_DATA, changed))
    yield from _snp_certificates(good, chip, other, prefix)


def _snp_guests(guest: SnpMeasurements) -> dict[str, SnpMeasurements]:
    levels = {f"VMPL {level}": replace(guest, vmpl=level) for level in (1, 3)}
    return levels | {"bit 17 of the policy clear": replace(guest, policy=1 << 16)}


def _snp_certificates(good: Case, chip: LabChip, other: LabChip, prefix: str) -> Iterator[Case]:
    vendor = chip.vendor
    ark, ask, asvk = (each.public_bytes(Encoding.DER) for each in (vendor.ark, vendor.ask, vendor.asvk))
    s = int.from_bytes(good.evidence[0x2E8:0x318], "little")
    negated = good.evidence[:0x2E8] + (P384_ORDER - s).to_bytes(48, "little") + good.evidence[0x318:]
    twin = LabChip(vendor, chip.chip_id[: vendor.product.hwid_size][::-1], chip.kind)
    stranger = LabAmd.create(vendor.product, NOW, amd_pki.RsaKeys.shared())
    changes: dict[str, dict[str, Any]] = {
        "CA of the other kind": {"ca": asvk if chip.kind is KeyKind.VCEK else ask},
        "key of the other kind": {"key": other.certificate},
        "key of another chip": {"key": twin.certificate},
        "root in the CA's place": {"ca": ark},
        "another root of the same key": {"root": stranger.ark.public_bytes(Encoding.DER)},
        "CA revoked": {"crl": vendor.crl([vendor.ask if chip.kind is KeyKind.VCEK else vendor.asvk])},
        "list by another key": {"crl": vendor.crl(signer=vendor.keys.ask)},
        "no list": {"crl": b""},
        "time before": {"now": NOW - 3 * DAY},
        "time after": {"now": NOW + 4000 * DAY},
        "other form of the signature": {"evidence": negated},
        "followed by a byte": {"evidence": good.evidence + b"\0"},
        "cut by one byte": {"evidence": good.evidence[:-1]},
    }
    for name, change in changes.items():
        yield replace(good, name=f"{prefix} {name}", **change)
