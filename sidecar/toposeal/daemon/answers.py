"""What outside verifiers get: the sealed manifest with all its evidence, and LIVE evidence on their nonce."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from toposeal.daemon.live_window import LiveWindows
from toposeal.daemon.node import Node, not_active
from toposeal.host.collateral_source import CollateralSource
from toposeal.host.journal import clock_ms
from toposeal.membership.history import history
from toposeal.membership.state import Own
from toposeal.outside.document import LiveAnswer, document_parts
from toposeal.outside.history import build_history
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import Status, status_of


class Answers:
    """Makes one document for one nonce; those who ask together share a quote."""

    def __init__(self, node: Node, own: Own, collateral: CollateralSource) -> None:
        self._node, self._own, self._collateral = node, own, collateral
        self._windows = LiveWindows(lambda challenge: node.live(challenge))

    def push(self, envelope: bytes) -> Pushed:
        """A topology from whomever. Raises ToposealError unless the owner's, and not older than ours."""
        return self._node.push(envelope)

    def status(self) -> Status:
        """What anybody may know. Raises RemoteProtocolError before there is anything to say."""
        member = self._node.member
        if member is None:
            raise not_active(None)
        return status_of(member, clock_ms())

    def history(self) -> Callable[[], bytes]:
        """What makes the answer: what the served manifest descends from. Raises RemoteProtocolError before
        there is one.
        """
        known = history(self._node.member) if self._node.member is not None else ()
        if not known:
            raise not_active(self._node.member)
        return lambda: build_history(known)

    async def answer(self, nonce: bytes) -> Callable[[], Iterator[bytes]]:
        """What makes the parts of the attestation document for `nonce` (32 bytes), the same each time. Raises
        ToposealError unless active.
        """
        answered = await self._windows.ask(nonce)
        signed, sealed, evidence = answered.live
        live = LiveAnswer(self._own.iid, answered.nonces, evidence)
        envelope, parts = signed.envelope, self._collateral.current()
        return lambda: document_parts(envelope, sealed, live, answered.leaf, parts.tdx, parts.crls)
