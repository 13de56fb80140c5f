"""L1: whether a mesh has come to rest."""

from __future__ import annotations

from collections.abc import Collection

from toposeal.membership.events import Announce, Appraise, Quote, Send
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Committed, Proposed, Sealed
from toposeal.topology.model import Topology
from toposeal_lab.simulation.parts import Node, Step

SAID = frozenset({Send, Announce, Quote, Appraise})  # what leaves a member where it is
_UNDECIDED = (Proposed, Committed, Sealed)


def is_settled(nodes: Collection[Node], newest: Topology) -> bool:
    """All members of what is served live and serve it too, under the newest topology, and who is outside has
    no place in it. `nodes`: the last boot of each pod.
    """
    if any(not n.alive or n.fenced or isinstance(n.member.phase, _UNDECIDED) for n in nodes):
        return False
    if any(n.member.own.topology.topology.digest != newest.digest for n in nodes):
        return False
    serving = {n.member.own.iid: n.active for n in nodes if n.active is not None and not n.suspended}
    if any(s.manifest.topology_digest != newest.digest for s in serving.values()):
        return False
    for sealed in serving.values():
        for iid in sealed.iids:
            theirs = serving.get(iid)
            if theirs is None or theirs.manifest.digest != sealed.manifest.digest:
                return False
    spare = [n for n in nodes if n.member.own.iid not in serving]
    return bool(serving) and not any(_has_place(n, s) for n in spare for s in serving.values())


def may_settle(step: Step) -> bool:
    """Whether a step has changed anything that `is_settled` looks at."""
    before, after = step.before, step.after
    moved = before.phase is not after.phase or before.own is not after.own
    return moved or any(type(effect) not in SAID for effect in step.effects)


def _has_place(node: Node, sealed: SealedManifest) -> bool:
    role = sealed.topology.roles[node.role]
    return sum(e.role == node.role for e in sealed.manifest.members) < role.max_replicas
