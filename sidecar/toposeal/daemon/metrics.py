"""Gathers what a metrics port says of one pod whenever somebody asks; nothing is kept for it but the time of
a quote.
"""

from __future__ import annotations

from toposeal.daemon.node import Node
from toposeal.dataplane.metrics import Figures, exposition
from toposeal.host.gate import Gate
from toposeal.host.journal import clock_ms


class Metrics:
    """The figures and the health of `gate` and `node`."""

    def __init__(self, gate: Gate, node: Node) -> None:
        self._gate, self._node = gate, node

    def healthy(self) -> bool:
        """Whether the pod serves. That this is answered at all says that the daemon is not stuck."""
        return self._gate.state.serves

    async def text(self) -> bytes:
        """What a metrics port says now. Raises PodError when Envoy does not answer."""
        counted = await self._gate.counted()
        member, quoted_at = self._node.member, self._node.quoted_at
        sealed = None if member is None else member.serving
        return exposition(
            Figures(
                state=self._gate.state,
                epoch=0 if sealed is None else sealed.manifest.epoch,
                members=0 if sealed is None else len(sealed.members),
                quote_age_ms=None if quoted_at is None else clock_ms() - quoted_at,
                counted=counted,
            )
        )
