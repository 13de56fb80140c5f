"""A simulated AMD with one chip for each product, made when first asked for: RSA-4096 is slow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from support import topologies
from support.tdx import BINDING
from toposeal._wire.evidence_pb2 import SEV_SNP, Evidence
from toposeal.evidence.binding import Binding
from toposeal.evidence.snp_certs import KeyKind, SnpEndorsements, parse_endorsements
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology
from toposeal.topology.snp import SnpFloors, SnpPolicy
from toposeal.verification.model import AppraisalContext
from toposeal.verification.snp_authentic import AuthenticSnp, authenticate
from toposeal_lab.simsnp import LabAmd, LabChip, ReportShape, SnpMeasurements, lab_snp_measurements
from toposeal_lab.simsnp.chip import default_tcb

NOW = 1_790_000_000
WEB, DB = lab_snp_measurements("web", "shop"), lab_snp_measurements("db", "shop")
NO_FLOOR = {"bl": 0, "tee": 0, "snp": 0, "ucode": 0}
SHAPE = ReportShape()


def amd(product: Product = Product.GENOA) -> LabAmd:
    return _amd(product)


def chip(product: Product = Product.GENOA, kind: KeyKind = KeyKind.VCEK) -> LabChip:
    return _chip(product, kind)


@cache
def _amd(product: Product) -> LabAmd:
    return LabAmd.create(product, NOW)


@cache
def _chip(product: Product, kind: KeyKind) -> LabChip:
    return LabChip(amd(product), bytes(range(1, product.hwid_size + 1)), kind)


def report(
    on: LabChip | None = None, shape: ReportShape = SHAPE, report_data: bytes = bytes(64), **guest: Any
) -> SnpReport:
    """A parsed report of `web` with some of its measured fields replaced."""
    made = (on or chip()).report(report_data, replace(WEB, **guest), shape)
    return parse_snp_report(made)


def endorsements(on: LabChip | None = None, **parts: bytes) -> SnpEndorsements:
    """What vouches for `on`; `key`, `chain` or `crl` instead of its own."""
    machine = on or chip()
    own = {"key": machine.certificate, "chain": machine.chain}
    return parse_endorsements(**(own | parts))


def authentic(on: LabChip | None = None, shape: ReportShape = SHAPE, **guest: Any) -> AuthenticSnp:
    machine = on or chip()
    made = report(machine, shape, **guest)
    return authenticate(made, endorsements(machine), machine.vendor.anchors(), NOW)


def policy(product: Product = Product.GENOA, **changes: Any) -> SnpPolicy:
    """A policy that accepts what `chip(product)` reports of `web`, with fields replaced."""
    floor = default_tcb(product).components()
    demanded = SnpPolicy(
        endorsements=frozenset({"VCEK"}),
        products={product: SnpFloors(floor, floor, floor)},
        vmpl=0,
        admit=frozenset({"SMT"}),
        require=frozenset(),
        require_platform=frozenset({"ECC_EN"}),
        lowered_tcb=False,
        provisional_firmware=False,
        csp_ids=None,
        launch_mitigations=0,
        current_mitigations=0,
        crl=False,
    )
    return replace(demanded, **changes)


def guest(**fields: Any) -> SnpMeasurements:
    return replace(WEB, **fields)


def topology(
    *, web: SnpMeasurements = WEB, db: SnpMeasurements = DB, platforms: Any = "any", **snp: Any
) -> Topology:
    """web and db on SNP alone; keyword arguments replace fields of the SNP policy."""
    document = topologies.document(snp=topologies.snp_policy(**snp))
    del document["tdx"]
    for name, measured in (("web", web), ("db", db)):
        reference = topologies.snp_reference(
            measurement=measured.measurement.hex(), host_data=measured.host_data.hex()
        )
        document["roles"][name] |= {"snp": [reference], "platforms": platforms}
        del document["roles"][name]["tdx"]
    return parse_topology(topologies.payload(document))


def evidence(
    binding: Binding = BINDING,
    measured: SnpMeasurements = WEB,
    on: LabChip | None = None,
    shape: ReportShape = SHAPE,
) -> Evidence:
    """What a genuine member of `measured` would send for `binding`."""
    machine = on or chip()
    ca = machine.vendor.ask if machine.kind is KeyKind.VCEK else machine.vendor.asvk
    return Evidence(
        tee=SEV_SNP,
        quote=machine.report(binding.report_data(), measured, shape),
        endorsement=machine.certificate,
        endorsement_ca=ca.public_bytes(Encoding.DER),
    )


def context(*crls: bytes, products: Iterable[Product] = Product, now: int = NOW) -> AppraisalContext:
    """The roots of `products`, and lists."""
    roots = tuple(root for product in products for root in amd(product).anchors().amd_roots)
    return AppraisalContext(replace(amd().anchors(), amd_roots=roots), (), now, crls)


def crl(
    number: int, *revoked: x509.Certificate, on: LabAmd | None = None, until: int = NOW + 86_400
) -> bytes:
    """DER of the list of that number by the root of `on`, in force until `until`, Unix seconds."""
    vendor = on or amd()
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (min(NOW, until) - 86_400, until))
    builder = x509.CertificateRevocationListBuilder().issuer_name(vendor.ark.subject)
    builder = (
        builder.last_update(start).next_update(end).add_extension(x509.CRLNumber(number), critical=False)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(start).build())
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
    return builder.sign(vendor.keys.ark, hashes.SHA384(), rsa_padding=pss).public_bytes(Encoding.DER)
