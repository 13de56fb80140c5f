"""Where this pod's collateral comes from, and which evidence makes it ask for more."""

from __future__ import annotations

from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.daemon.config import RunConfig
from toposeal.errors import EvidenceError
from toposeal.evidence.pck import PckChain, parse_pck_chain
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.collateral_source import CachedSource, CollateralSource, FileSource
from toposeal.host.endorsements import Endorser
from toposeal.verification.model import TrustAnchors


def open_collateral(config: RunConfig, anchors: TrustAnchors) -> tuple[CollateralSource, Endorser]:
    """The source, and what finds certificates for this machine's own reports. Reads the disk.

    AMD's lists are wanted from the start, TDX collateral when evidence names its platform family.
    Raises UsageError where the cache cannot be used.
    """
    services, snp = config.services, config.topology.topology.snp
    if services is None:
        return FileSource(config.collateral), Endorser(anchors, config.collateral)
    cache = CollateralCache(services.cache, anchors)
    source = CachedSource(cache, services.pcs, services.kds, config.collateral)
    if snp is not None:
        for product in sorted(snp.products):
            for kind in sorted(snp.endorsements):
                source.want_list(Product(product), KeyKind(kind))
    return source, Endorser(anchors, config.collateral, cache, services.kds)


def want_for_peer(evidence: Evidence, source: CollateralSource, anchors: TrustAnchors) -> None:
    """Ask for what a peer's TDX quote was refused for want of: if Intel has certified its machine.

    Without that check a stranger could have us ask for anything; with it, for what is there.
    """
    pck = _pck_chain(evidence.quote) if evidence.tee == TDX else None
    if pck is None:
        return
    issued = pck.leaf.issued_by(pck.platform_ca) and pck.platform_ca.issued_by(pck.root)
    if issued and pck.root.der == anchors.intel_sgx_root_ca:
        source.want_tdx(pck.fmspc)


def want_for_own(quote: bytes, source: CollateralSource) -> None:
    """Ask for the collateral of this machine, which outside verifiers are sent."""
    pck = _pck_chain(quote)
    if pck is not None:
        source.want_tdx(pck.fmspc, own=True)


def _pck_chain(quote: bytes) -> PckChain | None:
    """None for what cannot be read: it is refused where it is appraised."""
    try:
        return parse_pck_chain(parse_tdx_quote(quote).auth.pck_chain)
    except EvidenceError:
        return None
