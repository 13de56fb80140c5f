"""A simulated AMD with one chip for each product, made when first asked for: RSA-4096 is slow."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from toposeal.evidence.snp_certs import KeyKind, SnpEndorsements, parse_endorsements
from toposeal.evidence.snp_report import SnpReport, parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.topology.snp import SnpFloors, SnpPolicy
from toposeal.verification.snp_authentic import AuthenticSnp, authenticate
from toposeal_lab.simsnp import LabAmd, LabChip, ReportShape, SnpMeasurements, lab_snp_measurements
from toposeal_lab.simsnp.chip import default_tcb

NOW = 1_790_000_000
WEB = lab_snp_measurements("web", "shop")
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
        launch_mitigations=0,
        current_mitigations=0,
        crl=False,
    )
    return replace(demanded, **changes)


def guest(**fields: Any) -> SnpMeasurements:
    return replace(WEB, **fields)
