"""What outside verifiers get: the sealed manifest with all its evidence, and LIVE evidence on their nonce."""

from __future__ import annotations

from toposeal.daemon.node import Node
from toposeal.host.collateral_source import CollateralSource
from toposeal.membership.state import Own
from toposeal.outside.document import LiveAnswer, build_document


class Answers:
    """Makes one document for one nonce."""

    def __init__(self, node: Node, own: Own, collateral: CollateralSource) -> None:
        self._node, self._own, self._collateral = node, own, collateral

    async def answer(self, nonce: bytes) -> bytes:
        """The attestation document for `nonce` (32 bytes). Raises ToposealError unless active."""
        sealed, evidence = await self._node.live(nonce)
        live = LiveAnswer(self._own.iid, nonce, evidence)
        envelope, parts = self._own.topology.envelope, self._collateral.current()
        return build_document(envelope, sealed, live, parts.tdx, parts.crls)
