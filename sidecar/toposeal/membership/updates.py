"""TOPOLOGY: a newer declaration of the owner's takes effect without a restart (PROTOCOL.md 4.7). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal.errors import Mismatch, Reason
from toposeal.membership import fetching
from toposeal.membership.events import Alarm, Effect
from toposeal.membership.exchange import judge
from toposeal.membership.peers import Step, follow
from toposeal.membership.rounds import begin_if_due
from toposeal.membership.state import Gathering, Member, Proposed, Waiting
from toposeal.topology.accept import SignedTopology, accept, check_succession


def on_topology(member: Member, envelope: bytes, now: int) -> Step:
    """A topology that anybody shows, in a DSSE envelope: the owner's threshold is what counts (T1, T3).

    A higher version is ours from now on. Raises TopologyError for all that the owner did not sign for this
    mesh, and for an older one that was not asked for (T4).
    """
    if envelope == member.own.topology.envelope:
        return member, ()
    signed = accept(envelope, member.own.owner, member.topology.mesh, member.own.min_version)
    seen, ours = signed.topology, member.topology
    if seen.digest == ours.digest:
        return member, ()
    if seen.version == ours.version:
        return _contradicted(member)
    fetch = member.fetch
    if seen.version < ours.version and fetch is not None and fetch.topology == seen.digest:
        return fetching.with_topology(member, signed, now)
    check_succession(ours, seen)
    return _adopt(member, signed, now)


def _contradicted(member: Member) -> Step:
    """The owner signed two contents of one version: nobody can tell which is meant, so nothing is committed
    to until a higher version says (T5). What is served stays: its topology is the owner's too.
    """
    version = str(member.topology.version)
    expected = "one content per version"
    mismatch = Mismatch(Reason.TOPOLOGY_EQUIVOCATION, "topology.version", version, expected)
    if member.blocked is not None:
        return member, ()
    return replace(member, blocked=mismatch), (Alarm(mismatch),)


def _adopt(member: Member, signed: SignedTopology, now: int) -> Step:
    """The rules are those of `signed` from now on: who was admitted is judged again, ourselves included, and
    the next attempt is under it. What was committed to before is sealed as it was decided.
    """
    version = signed.topology.version
    member = replace(
        member,
        own=replace(member.own, topology=signed),
        blocked=None,
        prospect=None,
        adopted=(*member.adopted, (version, now)),
    )
    member, asked = fetching.with_topology(member, signed, now)
    member = _begin_anew(fetching.known_topologies(member), now)
    return follow(begin_if_due(member, now), now), (*asked, *_judge_all(member))


def _judge_all(member: Member) -> tuple[Effect, ...]:
    known = [effect for p in member.peers.values() for effect in judge(member, p.identity, p.join)]
    return (*judge(member, member.own.identity, member.join), *known)


def _begin_anew(member: Member, now: int) -> Member:
    """An attempt under an older topology that binds us to nothing ends; a pause does too."""
    phase = member.phase
    if isinstance(phase, (Gathering, Proposed)):
        return replace(member, phase=Waiting(member.last_epoch + 1, now))
    if isinstance(phase, Waiting):
        return replace(member, phase=replace(phase, until=min(phase.until, now)))
    return member
