"""A bundle: collateral and endorsements of both vendors in one JSON file, for use without a network. No IO.

    {"tdx": [QuoteCollateralV3 of dcap-qvl, ...],
     "snp": {"endorsements": [VCEK or VLEK, ...], "chains": [ASK or ASVK with ARK, ...], "crls": [...]}}

Certificates are canonical PEM, revocation lists DER in hexadecimal. Parts find each other by what they
say, not by their order; nothing is believed before it has been verified.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import pem
from toposeal.evidence.amd_lists import list_for
from toposeal.evidence.amd_x509 import parse_amd_crl, split_certificates
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.snp_certs import (
    Endorsement,
    KeyKind,
    parse_endorsement,
    read_authorities,
    read_endorsement,
)
from toposeal.evidence.snp_report import SIGNED_BY_VLEK, SnpReport
from toposeal.evidence.snp_tcb import Product, decode_tcb
from toposeal.evidence.strict_json import parse_value
from toposeal.limits import (
    MAX_BUNDLE_ENDORSEMENTS,
    MAX_BUNDLE_SIZE,
    MAX_COLLATERAL_ENTRIES,
    MAX_COLLATERAL_SIZE,
    MAX_CRLS,
)

_KINDS = frozenset({"tdx", "snp"})
_SNP_MEMBERS = frozenset({"endorsements", "chains", "crls"})
_MAX_CHAINS = 8  # two for each product, and to spare
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


@dataclass(frozen=True)
class SnpChain:
    """ASK or ASVK and ARK as PEM, and whose name the CA bears."""

    pem: bytes
    ca_name: str


@dataclass(frozen=True)
class SnpParts:
    """What vouches for one report, as `toposeal evidence verify` takes it from three files."""

    key: bytes | None = None  # DER or PEM
    chain: bytes | None = None  # PEM
    crl: bytes | None = None  # DER


NOTHING = SnpParts()


@dataclass(frozen=True)
class Bundle:
    """The parts, checked for form."""

    tdx: tuple[bytes, ...] = ()  # JSON
    endorsements: tuple[bytes, ...] = ()  # DER
    chains: tuple[SnpChain, ...] = ()
    crls: tuple[bytes, ...] = ()  # DER

    def for_report(self, report: SnpReport, given: SnpParts = NOTHING) -> SnpParts:
        """What vouches for `report`: each part as `given`, or else the one here that fits those before it.

        The chain is that of the key's product and kind, or without a key of the report's; the list is the
        one that counts for the chain's CA. Raises EvidenceError for a given key or chain that is none.
        """
        own = self.key_for(report) if given.key is None else None
        key = given.key if own is None else pem.encode(own)
        chain = self._chain_below(key, report) if given.chain is None else given.chain
        crl = self._list_for(chain) if given.crl is None and chain is not None else given.crl
        return SnpParts(key, chain, crl)

    def key_for(self, report: SnpReport) -> bytes | None:
        """The certificate (DER) of the report's chip, or of a provider, for its TCB version."""
        return next((der for der in self.endorsements if names_report(parse_endorsement(der), report)), None)

    def chain_for(self, product: Product, kind: KeyKind) -> bytes | None:
        """The chain (PEM) whose CA bears the name of the one that issues keys of `kind` for `product`."""
        name = kind.ca_name(product)
        return next((each.pem for each in self.chains if each.ca_name == name), None)

    def _chain_below(self, key: bytes | None, report: SnpReport) -> bytes | None:
        if key is not None:
            signer = read_endorsement(key)
            return self.chain_for(signer.product, signer.kind)
        return None if report.product is None else self.chain_for(report.product, kind_of_key(report))

    def _list_for(self, chain: bytes) -> bytes | None:
        ca, root = read_authorities(chain, "chain")
        return list_for(self.crls, ca, root)

    def dump(self) -> bytes:
        """The JSON form that `parse_bundle` reads; a kind without parts is left out."""
        snp = {
            "endorsements": [pem.encode(der).decode("ascii") for der in self.endorsements],
            "chains": [chain.pem.decode("ascii") for chain in self.chains],
            "crls": [der.hex() for der in self.crls],
        }
        parts: dict[str, Any] = {"tdx": [json.loads(entry) for entry in self.tdx]} if self.tdx else {}
        if any(snp.values()):
            parts["snp"] = snp
        return json.dumps(parts, indent=1).encode("ascii") + b"\n"


EMPTY = Bundle()


def parse_bundle(data: bytes) -> Bundle:
    """A bundle, an array of dcap-qvl's objects, or one of them. Something has to be in it.

    Raises EvidenceError: COLLATERAL_INVALID, COLLATERAL_SIGNER, CERTIFICATE_INVALID or TOO_LARGE.
    """
    if len(data) > MAX_BUNDLE_SIZE:
        raise EvidenceError.of(Reason.TOO_LARGE, "bundle", f"{len(data)} bytes", f"at most {MAX_BUNDLE_SIZE}")
    try:
        value = parse_value(data.decode("ascii"), "bundle")
    except UnicodeDecodeError as error:
        raise _invalid("", error, "ASCII") from error
    if isinstance(value, list):
        value = {"tdx": value}
    elif isinstance(value, dict) and not value.keys() & _KINDS:
        value = {"tdx": [value]}
    if not isinstance(value, dict) or not value.keys() <= _KINDS:
        raise _invalid("", type(value).__name__, "tdx and snp, or an array of collateral")
    snp = value.get("snp", {})
    if not isinstance(snp, dict) or not snp.keys() <= _SNP_MEMBERS:
        raise _invalid(".snp", snp, "endorsements, chains and crls")
    bundle = Bundle(
        tdx=tuple(_entry(each) for each in _array(value, "tdx", MAX_COLLATERAL_ENTRIES)),
        endorsements=tuple(_endorsement(t) for t in _texts(snp, "endorsements", MAX_BUNDLE_ENDORSEMENTS)),
        chains=tuple(_chain(text) for text in _texts(snp, "chains", _MAX_CHAINS)),
        crls=tuple(_list(text) for text in _texts(snp, "crls", MAX_CRLS)),
    )
    if bundle == EMPTY:
        raise _invalid("", "nothing", "at least one part")
    return bundle


def read_chain(data: bytes) -> SnpChain:
    """ASK or ASVK, then ARK, in canonical PEM. Raises EvidenceError(CERTIFICATE_INVALID) or TOO_LARGE."""
    ca, _ = read_authorities(data, "bundle.chains")
    return SnpChain(data, ca.common_name)


def kind_of_key(report: SnpReport) -> KeyKind:
    """Whose key signed, as `report` says."""
    return KeyKind.VLEK if report.signing_key == SIGNED_BY_VLEK else KeyKind.VCEK


def names_report(key: Endorsement, report: SnpReport) -> bool:
    """Whether a certificate is of the kind, chip and TCB version that `report` names; no signature is
    looked at, and a masked chip is named by none."""
    kind = kind_of_key(report)
    if key.kind is not kind or report.product not in (None, key.product):
        return False
    if kind is KeyKind.VCEK and key.hwid.ljust(len(report.chip_id), b"\0") != report.chip_id:
        return False
    try:
        return decode_tcb(report.reported_tcb, key.product, "report.reported_tcb") == key.tcb
    except EvidenceError:  # the layout of another product
        return False


def _array(value: dict[str, Any], name: str, limit: int) -> list[Any]:
    found = value.get(name, [])
    if not isinstance(found, list) or len(found) > limit:
        raise _invalid(f".{name}", type(found).__name__, f"an array of at most {limit}")
    return found


def _texts(value: dict[str, Any], name: str, limit: int) -> list[str]:
    found = _array(value, name, limit)
    if not all(isinstance(each, str) for each in found):
        raise _invalid(f".snp.{name}", "another type", "strings")
    return found


def _entry(value: Any) -> bytes:
    """Taking an array apart changes no signed byte: those are strings inside each entry."""
    entry = json.dumps(value).encode("ascii")
    if len(entry) > MAX_COLLATERAL_SIZE:
        found, expected = f"{len(entry)} bytes", f"at most {MAX_COLLATERAL_SIZE}"
        raise EvidenceError.of(Reason.TOO_LARGE, "bundle.tdx", found, expected)
    parse_collateral(entry)
    return entry


def _endorsement(text: str) -> bytes:
    parts = split_certificates(_ascii(text), "bundle.endorsements")
    if len(parts) != 1:
        expected = "one certificate in each string"
        raise EvidenceError.of(
            Reason.CERTIFICATE_INVALID, "bundle.endorsements", f"{len(parts)} certificates", expected
        )
    parse_endorsement(parts[0])
    return parts[0]


def _chain(text: str) -> SnpChain:
    return read_chain(_ascii(text))


def _ascii(text: str) -> bytes:
    """What JSON's escapes may have made of a string is refused with the PEM."""
    return text.encode("ascii", "replace")


def _list(text: str) -> bytes:
    if _HEX.fullmatch(text) is None:
        raise _invalid(".snp.crls", "another text", "lower-case hexadecimal")
    der = bytes.fromhex(text)
    parse_amd_crl(der)
    return der


def _invalid(member: str, found: object, expected: str) -> EvidenceError:
    return EvidenceError.of(Reason.COLLATERAL_INVALID, f"bundle{member}", found, expected)
