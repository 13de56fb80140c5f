"""Gathers a bundle: from the vendors' services, or from the cache where those are silent. Everything in it
has been verified by itself; whether it fits a piece of evidence is judged with that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from toposeal.errors import EvidenceError, NetworkError, Reason, ToposealError
from toposeal.evidence import pem
from toposeal.evidence.bundle import EMPTY, Bundle, read_chain
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_report import SnpReport
from toposeal.evidence.snp_tcb import Product
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.endorsements import Endorser
from toposeal.host.kds import Kds
from toposeal.host.pcs import Pcs
from toposeal.verification.collateral_authentic import (
    AuthenticCollateral,
    AuthenticList,
    authenticate_amd_list,
    authenticate_collateral,
)
from toposeal.verification.model import TrustAnchors
from toposeal.verification.stapled import with_newest_lists

T = TypeVar("T")
Say = Callable[[str, ToposealError], None]


@dataclass
class Gatherer:
    """`now` in Unix seconds; `say` hears why the cache had to stand in. Methods block, and raise
    NetworkError or EvidenceError where neither the service nor the cache has what is asked for."""

    anchors: TrustAnchors
    pcs: Pcs
    kds: Kds
    cache: CollateralCache | None
    now: int
    say: Say
    own: Bundle = EMPTY  # of the caller: endorsements that no service gives
    _tdx: dict[bytes, AuthenticCollateral] = field(default_factory=dict)
    _keys: list[bytes] = field(default_factory=list)
    _chains: dict[tuple[Product, KeyKind], bytes] = field(default_factory=dict)
    _lists: dict[tuple[Product, KeyKind], AuthenticList] = field(default_factory=dict)

    def tdx(self, fmspc: bytes) -> AuthenticCollateral:
        """The collateral of one platform family (FMSPC, 6 bytes)."""

        def fetch() -> AuthenticCollateral:
            entry = self.pcs.collateral(fmspc)
            if self.cache is None:
                return authenticate_collateral(entry, self.anchors, self.now)
            return self.cache.store_tdx(entry, self.now)

        def cached() -> AuthenticCollateral | None:
            known = () if self.cache is None else self.cache.load_tdx(self.now)
            return next((each for each in known if each.fmspc == fmspc), None)

        self._tdx[fmspc] = self._either(fmspc.hex(), fetch, cached)
        return self._tdx[fmspc]

    def snp(self, report: SnpReport, table: bytes, product: Product | None) -> tuple[Product, KeyKind]:
        """What vouches for one report, and the list of its product; `table` is auxblob, or nothing."""
        endorser = Endorser(self.anchors, self.own, self.cache, self.kds)
        try:
            found = endorser.find(report, table, self.now, product)
        except EvidenceError as error:
            causes = error.mismatches[1:]
            if causes and all(cause.reason is Reason.NETWORK for cause in causes):
                raise NetworkError(*causes) from error
            raise
        if found.key not in self._keys:
            self._keys.append(found.key)
        self._chains[found.product, found.kind] = pem.encode(found.ca, found.root)
        self._list(found.product, found.kind)
        return found.product, found.kind

    def product(self, product: Product) -> None:
        """Chain and list of every chip of one product, without any chip's own certificate."""
        endorser = Endorser(self.anchors, self.own, self.cache, self.kds)
        ca = endorser.ca(product, KeyKind.VCEK, self.now)
        self._chains[product, KeyKind.VCEK] = pem.encode(ca.ca.der, ca.root.der)
        self._list(product, KeyKind.VCEK)

    def bundle(self) -> Bundle:
        """All of it so far."""
        return Bundle(
            tdx=with_newest_lists([each.entry for each in self._tdx.values()]),
            endorsements=tuple(self._keys),
            chains=tuple(read_chain(each) for each in self._chains.values()),
            crls=tuple(each.der for each in self._lists.values()),
        )

    def _list(self, product: Product, kind: KeyKind) -> None:
        def fetch() -> AuthenticList:
            der = self.kds.revocation_list(product, kind)
            if self.cache is None:
                return authenticate_amd_list(der, self.anchors, self.now)
            return self.cache.store_list(der, product, kind, self.now)

        def cached() -> AuthenticList | None:
            return None if self.cache is None else self.cache.load_list(product, kind, self.now)

        self._lists[product, kind] = self._either(f"{product} {kind}", fetch, cached)

    def _either(self, name: str, fetch: Callable[[], T], cached: Callable[[], T | None]) -> T:
        """What the service gives, unless it is silent, older than the marks or wrong."""
        try:
            return fetch()
        except (NetworkError, EvidenceError) as error:
            known = cached()
            if known is None:
                raise
            self.say(name, error)
            return known
