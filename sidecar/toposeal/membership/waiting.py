"""What a member waits for, in words for its operator; nothing is decided by it. No IO, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from toposeal.errors import Mismatch, Reason
from toposeal.limits import DECLINED_MEMORY, MAX_MISMATCHES
from toposeal.membership.candidates import is_candidate, select
from toposeal.membership.choosing import doubted
from toposeal.membership.heartbeats import lapsed
from toposeal.membership.manifest import Manifest
from toposeal.membership.state import Attempt, Boot, Committed, Gathering, Member, Proposed, Sealed, Waiting


def waits(member: Member, now: int) -> tuple[Mismatch, ...]:
    """The first MAX_MISMATCHES things without which this member does not go on; none at rest."""
    return tuple(islice(_waits(member, now), MAX_MISMATCHES))


def _waits(member: Member, now: int) -> Iterator[Mismatch]:
    phase = member.phase
    if isinstance(phase, Boot):
        unverified = Mismatch(Reason.NOT_ACTIVE, "join", "not verified yet", "our own JOIN evidence")
        yield phase.refused or unverified
        return
    if member.blocked is not None:
        yield member.blocked
    if member.accepted != member.topology.digest:
        found = f"version {member.topology.version} does not admit us"
        yield Mismatch(Reason.ROLE_MISMATCH, "topology", found, "a topology that does")
    if member.suspended_at is not None:
        yield lapsed(member, now)
    if isinstance(phase, (Waiting, Gathering)) and member.failures:
        yield from _failures(member, now)
    if isinstance(phase, Gathering):
        yield from _candidates(member, phase.attempt, now)
    elif isinstance(phase, Proposed):
        agreed = {iid for iid, peer in member.peers.items() if peer.proposed == phase.manifest.digest}
        yield from _missing(member, phase.manifest, agreed | {member.own.iid}, "PROPOSE")
        leaver = member.peers.get(phase.leaver) if phase.leaver else None
        if leaver is not None and leaver.left is None:
            field, found = f"LEAVE of {leaver.identity.role}", f"none of {leaver.identity.ca.domain}"
            yield Mismatch(Reason.NOT_ACTIVE, field, found, f"one for epoch {phase.manifest.epoch}")
    elif isinstance(phase, Committed):
        yield from _missing(member, phase.manifest, set(phase.members), "COMMIT")
    elif isinstance(phase, Sealed):
        yield from _missing(member, phase.sealed.manifest, set(member.chain[member.sealed].seals), "SEALED")


def _candidates(member: Member, attempt: Attempt, now: int) -> Iterator[Mismatch]:
    live = [p for p in member.peers.values() if is_candidate(member, attempt, p, now)]
    count = Counter([member.own.identity.role, *(p.identity.role for p in live)])
    short = {name: role for name, role in member.topology.roles.items() if count[name] < role.min_replicas}
    for name, role in short.items():
        expected = f"at least {role.min_replicas}"
        yield Mismatch(Reason.MANIFEST_BOUNDS, f"roles.{name}", f"{count[name]} within reach", expected)
        yield from _declined(member, name, now)
    if not short and select(member, attempt, now) is None:
        expected = "a selection with more than half of every earlier manifest"
        yield Mismatch(Reason.NO_MAJORITY, "members", "too few, or some that share a guest", expected)


def _declined(member: Member, role: str, now: int) -> Iterator[Mismatch]:
    """Why those of `role` who came are not counted."""
    for declined in member.declined:
        if declined.role == role and now - declined.at < DECLINED_MEMORY:
            why = declined.mismatch
            yield replace(why, field=f"JOIN evidence of a {role}: {why.field}")


def _failures(member: Member, now: int) -> Iterator[Mismatch]:
    found = f"{member.failures} failed in a row"
    yield Mismatch(Reason.NOT_ACTIVE, "attempts", found, "one in which all commit")
    for iid in sorted(doubted(member, now)):
        identity = member.peers[iid].identity
        found = f"none of {identity.ca.domain} when an attempt ended"
        yield Mismatch(Reason.NOT_ACTIVE, f"COMMIT of {identity.role}", found, "one in time")


def _missing(member: Member, manifest: Manifest, have: set[bytes], what: str) -> Iterator[Mismatch]:
    for entry in manifest.members:
        if entry.iid not in have:
            peer = member.peers.get(entry.iid)
            name = "ourselves" if peer is None else peer.identity.ca.domain
            field = f"{what} of {entry.role}"
            yield Mismatch(Reason.NOT_ACTIVE, field, f"none of {name}", f"one for epoch {manifest.epoch}")
