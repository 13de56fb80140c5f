"""HEARTBEAT: who lives, what each would follow, and how long we may serve (PROTOCOL.md 4.8, 6.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest, encode, u64
from toposeal.errors import Mismatch, Reason, RemoteProtocolError
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import NONCE_SIZE
from toposeal.membership import fetching, outbox
from toposeal.membership.certificate import listed_since
from toposeal.membership.events import Effect, Fence, Resume, Send, Suspend
from toposeal.membership.heads import head, is_alive
from toposeal.membership.peers import Step, known_peer
from toposeal.membership.rounds import begin_if_due, fence
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Committed, Fenced, Member, Peer, mesh_iids
from toposeal.membership.votes import Heartbeat, make_heartbeat, parse_heartbeat

_WINDOW = 3  # the answer to one of so many last nonces counts
_SILENT_LIMIT = 15  # heartbeats in a row without an answer: an instance outside the mesh is forgotten (P12)


def on_heartbeat(member: Member, message: wire.Signed, now: int) -> Step:
    """Proof of life if it answers us, and then what its sender would follow; answered at once if not."""
    beat = parse_heartbeat(message.body)
    peer = known_peer(member, beat.sender, "heartbeat.sender")
    if beat.receiver != member.own.iid:
        found, expected = beat.receiver, member.own.iid.hex()
        raise RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, "heartbeat.receiver", found, expected)
    verify_ik(peer.identity.ik, Tag.HEARTBEAT, message.body, message.signature)
    # Who leaves does so for good: that needs no freshness.
    heard = replace(peer, beat=beat.nonce, leaving=peer.leaving or beat.leaving)
    if peer.admitted is None:
        return member.with_peer(heard), ()
    sent_at = next((at for nonce, at in peer.beats if nonce == beat.answer), None)
    if sent_at is None:  # perhaps a replay: answered at once, but no later heartbeat of ours answers it
        member, effects = answer(member.with_peer(heard), heard, now)
        member = member.with_peer(replace(member.peers[beat.sender], beat=peer.beat))
        return begin_if_due(member, now) if heard.leaving != peer.leaving else member, effects
    news = (peer.head, peer.leaving) != (beat.head, heard.leaving) or not is_alive(member, peer, now)
    lease = sent_at + member.topology.timers.lease_ms if _renews(member, peer, beat.head) else 0
    peer = replace(
        heard,
        head=beat.head,
        silent=0,
        alive_at=max(sent_at, peer.alive_at or 0),
        lease_until=max(peer.lease_until, lease),
    )
    member, newer = fetching.want_topology(member.with_peer(peer), peer, now)
    member, effects = fetching.want(member, peer, beat.head, now)
    effects = (*newer, *effects)
    return begin_if_due(member, now) if news else member, effects


def beat_all(member: Member, now: int) -> Step:
    """One heartbeat to everybody of our mesh, and to whoever may come into it or we into theirs."""
    member = replace(member, beat_at=now + member.own.topology.topology.timers.heartbeat_ms)
    listed, following, introduction = mesh_iids(member), _following(member, now), None
    effects: tuple[Effect, ...] = ()
    if member.suspended_at is not None:  # and may have been forgotten by those who serve
        introduction = outbox.introduction(member)
        effects = outbox.announce(member, introduction)
    for peer in list(member.peers.values()):
        if not _concerns(member, peer):
            continue
        if peer.identity.iid not in listed and peer.silent >= _SILENT_LIMIT:
            member = member.without_peer(peer.identity.iid)
            continue
        if peer.silent > 1:  # who does not answer may not know us
            introduction = introduction or outbox.introduction(member)
            effects += (outbox.send(peer, introduction),) if introduction else ()
        member, more = _beat(member, replace(peer, silent=peer.silent + 1), following, now)
        effects += more
    return member, effects


def greet(member: Member, peer: Peer, now: int) -> Step:
    """The first heartbeat to an instance that was just admitted, where there is anything to follow."""
    if member.chain or any(peer.beat):
        return _beat(member, peer, _following(member, now), now)
    return member, ()


def answer(member: Member, peer: Peer, now: int) -> Step:
    """A heartbeat out of turn, seldom enough that two never keep each other talking."""
    pause = member.own.topology.topology.timers.ping_ms // 4
    if peer.answered_at is not None and now - peer.answered_at < pause:
        return member, ()
    return _beat(member, replace(peer, answered_at=now), _following(member, now), now)


def lapses_at(member: Member) -> int | None:
    """When leases of a majority or the seal run out, in ms; None for who serves nothing."""
    serving = member.serving
    if serving is None:
        return None
    timers = member.own.topology.topology.timers
    needed, listed = len(serving.iids) // 2, serving.iids  # with ourselves more than half
    lease = member.serving_since + 2 * timers.reattest_ms
    if member.adopted:  # something newer than what we serve is known
        lease = min(lease, member.adopted[0][1] + timers.topology_ms)
    others = [peer.lease_until for iid, peer in member.peers.items() if iid in listed]
    if needed > len(others):
        return 0
    return min(lease, sorted(others)[-needed]) if needed else lease


def watch(member: Member, now: int) -> Step:
    """After every event: whether we still may serve, and whether we ever will again."""
    if isinstance(member.phase, Fenced):
        return member, ()
    until = lapses_at(member)
    if until is not None and now < until:
        if member.suspended_at is None:
            return member, ()
        return replace(member, suspended_at=None), (Resume(),)
    if until is not None and member.suspended_at is None:
        return replace(member, suspended_at=now), (Suspend(lapsed(member, now)),)
    gives_up = quorum_deadline(member)
    if gives_up is not None and now >= gives_up:
        mismatch = Mismatch(Reason.QUORUM_LOST, "leases", "no majority", "a majority of the manifest")
        return fence(member, Fence(mismatch))
    return member, ()


def quorum_deadline(member: Member) -> int | None:
    """When who is suspended, or has sealed and never served, gives up; None under `halt`, for who serves, for
    who is bound to nothing, and for who leaves.
    """
    topology = member.own.topology.topology
    since = member.suspended_at
    if member.serving is None and member.sealed != ZERO_DIGEST:
        since = member.sealed_at
    if since is None or member.leaving or topology.on_quorum_loss != "regenesis":
        return None
    return since + topology.timers.quorum_ms


def lapsed(member: Member, now: int) -> Mismatch:
    """Why a suspended member may not serve."""
    if now >= member.serving_since + 2 * member.own.topology.topology.timers.reattest_ms:
        return Mismatch(Reason.SEAL_TOO_OLD, "sealed", "older than twice reattest_ms", "a newer seal")
    if member.adopted and now >= member.adopted[0][1] + member.topology.timers.topology_ms:
        found, expected = str(member.adopted[-1][0]), "a manifest under the newest topology"
        return Mismatch(Reason.TOPOLOGY_SUPERSEDED, "topology.version", found, expected)
    return Mismatch(Reason.NO_MAJORITY, "leases", "too few", "leases with a majority of the manifest")


def _following(member: Member, now: int) -> bytes:
    """What we would follow if others began an attempt now; what we sealed if we would take part in none: who
    has committed, who sees two topologies of one version, whom the newest does not admit.
    """
    admitted = member.accepted == member.topology.digest and member.blocked is None
    return head(member, now) if admitted and not isinstance(member.phase, Committed) else member.sealed


def _renews(member: Member, peer: Peer, follows: bytes) -> bool:
    """Whether `peer` stands, by what it `follows`, where we are still listed: at what we serve, or at a later
    one with us, and none between them left us out.
    """
    serving = member.serving
    if serving is None or peer.identity.iid not in serving.iids:
        return False
    return listed_since(member.chain, follows, serving.manifest.digest, member.own.iid)


def _concerns(member: Member, peer: Peer) -> bool:
    if peer.admitted is None:
        return False
    return bool(member.chain) or peer.head != ZERO_DIGEST


def _beat(member: Member, peer: Peer, following: bytes, now: int) -> Step:
    if not member.beat_secret:
        return member.with_peer(peer), ()
    count = peer.beat_count + 1
    nonce = digest("toposeal/v1/beat-nonce", member.beat_secret, peer.identity.iid, u64(count))[:NONCE_SIZE]
    beat = Heartbeat(member.own.iid, peer.identity.iid, nonce, peer.beat, following, member.leaving)
    data = encode(wire.Envelope(heartbeat=make_heartbeat(member.own.keys, beat)))
    peer = replace(peer, beat_count=count, beats=((nonce, now), *peer.beats)[:_WINDOW])
    return member.with_peer(peer), (Send(peer.identity.iid, peer.hello.addresses, data),)
