"""What vouches for this machine's own SNP report: the host's table, the owner's bundle, the cache, AMD.

All four are believed alike, which is not at all: a certificate is taken if it names the report's chip and
TCB version and leads to a pinned root. The host's table comes first since it costs nothing; where the host
gives none, or one that is out of date, the next is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from toposeal.errors import EvidenceError, Mismatch, NetworkError, Reason, ToposealError
from toposeal.evidence import pem
from toposeal.evidence.bundle import EMPTY, Bundle, kind_of_key, names_report
from toposeal.evidence.ghcb_table import CertificateTable, parse_certificate_table
from toposeal.evidence.snp_certs import KeyKind, parse_endorsement, read_endorsement
from toposeal.evidence.snp_report import SnpReport
from toposeal.evidence.snp_tcb import Product, decode_tcb
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.kds import Kds
from toposeal.verification.collateral_authentic import AmdCa, authenticate_amd_ca, authenticate_endorsement
from toposeal.verification.model import TrustAnchors

_Found = Callable[[], bytes | None]


@dataclass(frozen=True)
class Endorsed:
    """VCEK or VLEK, the CA that issued it, and the pinned root, all in DER, with what the first names."""

    key: bytes
    ca: bytes
    root: bytes
    product: Product
    kind: KeyKind


@dataclass(frozen=True)
class Endorser:
    """Where to look; None is not looked at."""

    anchors: TrustAnchors
    bundle: Bundle = EMPTY
    cache: CollateralCache | None = None
    kds: Kds | None = None

    def find(self, report: SnpReport, table: bytes, now: int, product: Product | None = None) -> Endorsed:
        """What vouches for `report` at `now` (Unix seconds). `table` is auxblob, or nothing; `product` helps
        a report that does not name its own. Blocks while AMD is asked.

        Raises EvidenceError(COLLATERAL_MISSING) with every reason why nothing was found.
        """
        kind = kind_of_key(report)
        offered, reasons = _table(table)
        for find in self._keys(report, kind, offered, report.product or product):
            try:
                key = find()
                if key is not None:
                    return self._endorsed(key, report, kind, offered, now)
            except (EvidenceError, NetworkError) as error:
                reasons.extend(error.mismatches)
        missing = Mismatch(Reason.COLLATERAL_MISSING, "endorsement", "nothing", f"a {kind} for this report")
        raise EvidenceError(missing, *reasons)

    def _keys(
        self, report: SnpReport, kind: KeyKind, offered: CertificateTable, product: Product | None
    ) -> Iterator[_Found]:
        yield lambda: offered.vlek if kind is KeyKind.VLEK else offered.vcek
        yield lambda: self.bundle.key_for(report)
        if kind is KeyKind.VCEK and product is not None:
            yield lambda: self._cached(report, product)
            yield lambda: self._fetched(report, product)

    def _cached(self, report: SnpReport, product: Product) -> bytes | None:
        if self.cache is None:
            return None
        tcb = decode_tcb(report.reported_tcb, product, "report.reported_tcb")
        return self.cache.load_vcek(product, report.chip_id, tcb)

    def _fetched(self, report: SnpReport, product: Product) -> bytes | None:
        if self.kds is None:
            return None
        tcb = decode_tcb(report.reported_tcb, product, "report.reported_tcb")
        return self.kds.vcek(product, report.chip_id, tcb)

    def _endorsed(
        self, data: bytes, report: SnpReport, kind: KeyKind, offered: CertificateTable, now: int
    ) -> Endorsed:
        """DER, or PEM as some hosts give it. Raises EvidenceError unless it holds."""
        found = read_endorsement(data)
        key = parse_endorsement(found.certificate.der)
        if not names_report(key, report):
            expected = "the chip and the TCB version of the report"
            raise EvidenceError.of(Reason.TCB_MISMATCH, "endorsement", f"{key.product} {key.tcb}", expected)
        ca = self._ca(key.product, kind, offered, now)
        authenticate_endorsement(key.certificate.der, ca, now)
        if self.cache is not None and kind is KeyKind.VCEK:
            self.cache.store_vcek(key.certificate.der, key.product, report.chip_id, key.tcb)
        return Endorsed(key.certificate.der, ca.ca.der, ca.root.der, key.product, key.kind)

    def ca(self, product: Product, kind: KeyKind, now: int) -> AmdCa:
        """The CA of a product by itself. Raises EvidenceError(COLLATERAL_MISSING)."""
        return self._ca(product, kind, CertificateTable(), now)

    def _ca(self, product: Product, kind: KeyKind, offered: CertificateTable, now: int) -> AmdCa:
        reasons: list[Mismatch] = []
        for find in self._cas(product, kind, offered):
            try:
                text = find()
                if text is not None:
                    return self._kept(text, product, kind, now)
            except (EvidenceError, NetworkError) as error:
                reasons.extend(error.mismatches)
        missing = Mismatch(Reason.COLLATERAL_MISSING, "chain.ca", "nothing", f"a CA of {product} for {kind}")
        raise EvidenceError(missing, *reasons)

    def _cas(self, product: Product, kind: KeyKind, offered: CertificateTable) -> Iterator[_Found]:
        yield lambda: offered.ca
        yield lambda: self.bundle.chain_for(product, kind)
        if self.cache is not None:
            cache = self.cache
            yield lambda: cache.load_chain(product, kind)
        if self.kds is not None:
            kds = self.kds
            yield lambda: kds.chain(product, kind)

    def _kept(self, text: bytes, product: Product, kind: KeyKind, now: int) -> AmdCa:
        """The first certificate of a chain is the CA; the root that comes with it is not looked at."""
        der = pem.decode(text, "chain")[0] if text.startswith(b"-----") else text
        ca = authenticate_amd_ca(der, product, kind, self.anchors, now)
        if self.cache is not None:
            self.cache.store_chain(pem.encode(ca.ca.der, ca.root.der), product, kind)
        return ca


def _table(data: bytes) -> tuple[CertificateTable, list[Mismatch]]:
    """A hint of the host's: one that cannot be read is none."""
    try:
        return parse_certificate_table(data), []
    except ToposealError as error:
        return CertificateTable(), list(error.mismatches)
