"""VCEK and VLEK: which chip or provider, which product, which firmware AMD certified. No IO, no trust.

Profile: AMD 57230 (VCEK certificate and KDS interface specification), certificate extensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import der
from toposeal.evidence.amd_x509 import (
    AmdCertificate,
    AmdCrl,
    parse_amd_certificate,
    parse_amd_crl,
    split_certificates,
)
from toposeal.evidence.der import DerReader
from toposeal.evidence.snp_tcb import Product, SnpTcb

_ARC = "1.3.6.1.4.1.3704.1."
_STRUCT_VERSIONS = (0, 1)
_PRODUCT_NAME = re.compile(r"(Milan|Genoa|Turin)(?:-[A-Z][0-9])?", re.ASCII)
_LEVELS = {"bl": "3.1", "tee": "3.2", "snp": "3.3", "ucode": "3.8"}
_FMC = "3.9"
_RESERVED_LEVELS = ("3.4", "3.5", "3.6", "3.7")
_MAX_LEVEL = 255
_FIELD = "endorsement"
_REMEMBERED = 64  # machines: every report of one is signed by the same key


class KeyKind(StrEnum):
    """Whose key signed: the chip's own, or one that AMD lends to a cloud provider."""

    VCEK = "VCEK"
    VLEK = "VLEK"

    def ca_name(self, product: Product) -> str:
        """The common name of the CA of these keys: that of the ASK, or of the ASVK."""
        return f"SEV-VLEK-{product}" if self is KeyKind.VLEK else f"SEV-{product}"


@dataclass(frozen=True)
class Endorsement:
    """A VCEK or VLEK certificate with what AMD says in its extensions."""

    certificate: AmdCertificate
    kind: KeyKind
    product: Product
    product_name: str  # with the stepping, as written
    tcb: SnpTcb
    levels: Mapping[str, int]  # the same under the last arcs of AMD's object identifiers
    hwid: bytes  # 64, on Turin 8; empty in a VLEK
    csp_id: str | None  # the provider, in a VLEK
    public_key: ec.EllipticCurvePublicKey  # P-384


@dataclass(frozen=True)
class SnpEndorsements:
    """What vouches for a report: its key's certificate, ASK or ASVK, ARK, and a list if there is one."""

    key: Endorsement
    ca: AmdCertificate
    root: AmdCertificate
    crl: AmdCrl | None


def parse_endorsements(key: bytes, chain: bytes, crl: bytes | None = None) -> SnpEndorsements:
    """Certificates in DER or canonical PEM; `chain` is ASK or ASVK, then ARK, in PEM; `crl` is DER.

    Raises EvidenceError: CERTIFICATE_INVALID, COLLATERAL_INVALID or TOO_LARGE.
    """
    ca, root = read_authorities(chain, "chain")
    return SnpEndorsements(
        key=read_endorsement(key),
        ca=ca,
        root=root,
        crl=None if crl is None else parse_amd_crl(crl),
    )


def read_authorities(chain: bytes, field: str) -> tuple[AmdCertificate, AmdCertificate]:
    """ASK or ASVK, and ARK, in canonical PEM. Raises EvidenceError(CERTIFICATE_INVALID) or TOO_LARGE."""
    ca, root = _split(chain, 2, field)
    return parse_amd_certificate(ca, f"{field}.ca"), parse_amd_certificate(root, f"{field}.root")


def read_endorsement(data: bytes) -> Endorsement:
    """One VCEK or VLEK in DER or canonical PEM. Raises EvidenceError(CERTIFICATE_INVALID) or TOO_LARGE."""
    return parse_endorsement(_split(data, 1, _FIELD)[0])


@lru_cache(_REMEMBERED)
def parse_endorsement(data: bytes) -> Endorsement:
    """Parse one VCEK or VLEK in DER, or remember it.

    Raises EvidenceError(CERTIFICATE_INVALID) or TOO_LARGE.
    """
    certificate = parse_amd_certificate(data, _FIELD)
    if certificate.critical:
        raise _invalid("extensions", sorted(certificate.critical), "no critical extension")
    kinds = {f"SEV-{kind}": kind for kind in KeyKind}
    kind = kinds.get(certificate.common_name)
    key = certificate.public_key
    if kind is None:
        raise _invalid("subject", certificate.common_name, " or ".join(kinds))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _invalid("public_key", "RSA", "a key on P-384")
    if _number(certificate, "1") not in _STRUCT_VERSIONS:
        raise _invalid("structVersion", _number(certificate, "1"), _STRUCT_VERSIONS)
    name = _text(certificate, "2")
    match = _PRODUCT_NAME.fullmatch(name)
    if match is None:
        raise _invalid("productName", name, "Milan, Genoa or Turin")
    product = Product(match[1])
    levels = _levels(certificate, product)
    return Endorsement(
        certificate=certificate,
        kind=kind,
        product=product,
        product_name=name,
        tcb=_tcb(levels),
        levels=MappingProxyType(levels),
        hwid=_hwid(certificate, kind, product),
        csp_id=_csp_id(certificate, kind),
        public_key=key,
    )


def _split(data: bytes, count: int, field: str) -> tuple[bytes, ...]:
    found = split_certificates(data, field)
    if len(found) != count:
        raise EvidenceError.of(Reason.CERTIFICATE_INVALID, field, f"{len(found)} certificates", count)
    return found


def _levels(certificate: AmdCertificate, product: Product) -> dict[str, int]:
    """Every level that counts; those that have no meaning for the product have to be zero or absent."""
    arcs = [*_LEVELS.values(), *([_FMC] if product is Product.TURIN else [])]
    levels = {arc: _number(certificate, arc) for arc in arcs}
    too_high = [arc for arc, level in levels.items() if level > _MAX_LEVEL]
    without_meaning = {*_RESERVED_LEVELS, _FMC}.difference(arcs)
    present = [arc for arc in sorted(without_meaning) if _ARC + arc in certificate.extensions]
    set_reserved = [arc for arc in present if _number(certificate, arc) != 0]
    if too_high or set_reserved:
        raise _invalid("spl", too_high + set_reserved, "levels of one byte, reserved ones zero")
    return levels


def _tcb(levels: Mapping[str, int]) -> SnpTcb:
    named = {name: levels[arc] for name, arc in _LEVELS.items()}
    return SnpTcb(**named, fmc=levels.get(_FMC))


def _hwid(certificate: AmdCertificate, kind: KeyKind, product: Product) -> bytes:
    """Raw bytes, as genuine certificates have it, or a DER OCTET STRING of exactly that size."""
    value = certificate.extensions.get(_ARC + "4", b"")
    size = 0 if kind is KeyKind.VLEK else product.hwid_size
    if size and value[:2] == bytes([der.OCTET_STRING, size]) and len(value) == size + 2:
        return value[2:]
    if len(value) != size:
        raise _invalid("hwID", f"{len(value)} bytes", f"{size} for {product} {kind}")
    return value


def _csp_id(certificate: AmdCertificate, kind: KeyKind) -> str | None:
    present = _ARC + "5" in certificate.extensions
    if present != (kind is KeyKind.VLEK):
        raise _invalid("cspID", "present" if present else "nothing", "one in a VLEK alone")
    return _text(certificate, "5") if present else None


def _number(certificate: AmdCertificate, arc: str) -> int:
    reader = _extension(certificate, arc)
    value = reader.integer()
    reader.end()
    return value


def _text(certificate: AmdCertificate, arc: str) -> str:
    reader = _extension(certificate, arc)
    content = reader.element(der.IA5_STRING, der.UTF8_STRING)
    reader.end()
    return content.decode("ascii", "replace")


def _extension(certificate: AmdCertificate, arc: str) -> DerReader:
    value = certificate.extensions.get(_ARC + arc)
    if value is None:
        raise _invalid(f"extension {arc}", "nothing", f"an extension {_ARC}{arc}")
    return DerReader(value, f"{_FIELD}.extension {arc}", Reason.CERTIFICATE_INVALID)


def _invalid(field: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.CERTIFICATE_INVALID, f"{_FIELD}.{field}", found, expected)
