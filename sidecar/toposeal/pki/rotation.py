"""When leaves are minted anew. No IO; times are milliseconds on the daemon's own clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from toposeal.errors import LocalProtocolError, Reason
from toposeal.limits import ROTATION_RETRY


@dataclass(frozen=True)
class LeafSchedule:
    """Leaves that expire at `expires_at`; new ones are due at `due_at`."""

    due_at: int
    expires_at: int

    def retry(self, now: int) -> LeafSchedule:
        """After a failed rotation: again at half of the time that is left, but never at once."""
        remaining = max(self.expires_at - now, 0)
        return replace(self, due_at=now + max(remaining // 2, ROTATION_RETRY))


def schedule(minted_at: int, lifetime_ms: int) -> LeafSchedule:
    """Due at half life, so that a failed rotation leaves as much time again to try."""
    if lifetime_ms < 2:
        raise LocalProtocolError.of(Reason.INTERNAL, "leaf.lifetime_ms", lifetime_ms, "at least 2")
    return LeafSchedule(minted_at + lifetime_ms // 2, minted_at + lifetime_ms)
