"""Every kind of evidence, genuine, with the question whether some bytes in its place are believed.

For tests of bad input: `believed` raises nothing but what is no typed refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from support import gpu
from support.snp import NOW as SNP_NOW
from support.snp import WEB as SNP_WEB
from support.snp import amd, chip
from support.tdx import HOST, NOW, PKI, PPID
from support.tdx import WEB as TDX_WEB
from toposeal.errors import ToposealError
from toposeal.evidence.ghcb_table import ARK, ASK, VCEK, parse_certificate_table
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.snp_certs import KeyKind, parse_endorsements
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.verification import snp_authentic, tdx_authentic
from toposeal.verification.gpu_authentic import authenticate_gpu
from toposeal_lab.simsnp import LabChip, ReportShape, certificate_table
from toposeal_lab.simsnp.pki import der
from toposeal_lab.simtdx import LabHost, QuoteShape

DATA = bytes(range(64))


@dataclass(frozen=True)
class Kind:
    """`genuine` is believed; `accept` raises a ToposealError for what is not."""

    genuine: bytes
    accept: Callable[[bytes], object]
    lengths: tuple[tuple[int, int], ...] = ()  # offset and size of little-endian length fields

    def believed(self, data: bytes) -> bool:
        try:
            self.accept(data)
        except ToposealError as refused:
            assert refused.mismatches
            assert str(refused).isprintable()
            return False
        return True


@cache
def kinds() -> Mapping[str, Kind]:
    """By name. Making RSA keys takes seconds, once."""
    return {**_tdx(), **_snp(), **_snp_parts(), **_gpu()}


def _tdx() -> dict[str, Kind]:
    collateral = PKI.collateral()

    def accept(data: bytes) -> object:
        return tdx_authentic.authenticate(parse_tdx_quote(data), (collateral,), PKI.anchors(), NOW)

    found = {"tdx-4": Kind(HOST.quote(DATA, TDX_WEB), accept, ((632, 4), (766, 4), (1218, 2), (1254, 4)))}
    for body, size in ((2, 584), (3, 648), (4, 885)):
        host = LabHost(PKI, PPID, shape=QuoteShape(version=5, body_type=body))
        end = 54 + size
        lengths = ((50, 4), (end, 4), (end + 134, 4), (end + 586, 2), (end + 622, 4))
        found[f"tdx-5-{body}"] = Kind(host.quote(DATA, TDX_WEB), accept, lengths)
    found["tdx-collateral"] = Kind(collateral, _under_collateral)
    return found


def _under_collateral(data: bytes) -> object:
    quote = parse_tdx_quote(HOST.quote(DATA, TDX_WEB))
    return tdx_authentic.authenticate(quote, (data,), PKI.anchors(), NOW)


def _snp() -> dict[str, Kind]:
    shapes = (
        ("snp-2-milan", Product.MILAN, KeyKind.VCEK, 2),
        ("snp-3-turin", Product.TURIN, KeyKind.VCEK, 3),
        ("snp-4-genoa", Product.GENOA, KeyKind.VCEK, 4),
        ("snp-5-turin", Product.TURIN, KeyKind.VCEK, 5),
        ("snp-5-vlek", Product.GENOA, KeyKind.VLEK, 5),
    )
    found = {}
    for name, product, kind, version in shapes:
        machine = chip(product, kind)
        report = machine.report(DATA, SNP_WEB, ReportShape(version=version))
        found[name] = Kind(report, _under(machine))
    return found


def _under(machine: LabChip) -> Callable[[bytes], object]:
    def accept(data: bytes) -> object:
        vouched = parse_endorsements(machine.certificate, machine.chain)
        return snp_authentic.authenticate(parse_snp_report(data), vouched, machine.vendor.anchors(), SNP_NOW)

    return accept


def _snp_parts() -> dict[str, Kind]:
    """What vouches for a report, each part in the place of the genuine one."""
    machine = chip()
    report = parse_snp_report(machine.report(DATA, SNP_WEB))
    parts = {"key": machine.certificate, "chain": machine.chain, "crl": amd().crl([amd().asvk])}

    def part(name: str) -> Kind:
        def accept(data: bytes) -> object:
            vouched = parse_endorsements(**(parts | {name: data}))
            return snp_authentic.authenticate(report, vouched, amd().anchors(), SNP_NOW)

        return Kind(parts[name], accept)

    table = certificate_table([(VCEK, machine.certificate), (ASK, der(amd().ask)), (ARK, der(amd().ark))])
    lengths = tuple((24 * entry + offset, 4) for entry in range(3) for offset in (16, 20))
    return {
        **{f"snp-{name}": part(name) for name in parts},
        "snp-table": Kind(table, parse_certificate_table, lengths),
    }


def _gpu() -> dict[str, Kind]:
    """A device's report and its certificates, each in the place of the genuine one."""
    genuine = gpu.gpu().evidence(gpu.NONCE)

    def accept(evidence: GpuEvidence) -> object:
        return authenticate_gpu(evidence, gpu.NONCE, gpu.anchors(), gpu.NOW)

    return {
        "gpu-report": Kind(genuine.report, lambda data: accept(replace(genuine, report=data))),
        "gpu-chain": Kind(genuine.chain, lambda data: accept(replace(genuine, chain=data))),
    }
