"""What came before the manifest that a member serves, for whoever asks: no rule needs it any more. No IO.

Each manifest names its predecessor by digest, so the newest, which quotes prove, proves those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile

from toposeal.limits import MAX_HISTORY_SIZE
from toposeal.membership.certificate import Chain
from toposeal.membership.manifest import Manifest
from toposeal.membership.state import Member

Past = Mapping[bytes, Manifest]  # by D: what certificates are no longer held of


def history(member: Member) -> tuple[Manifest, ...]:
    """What is served and what it descends from, newest first, as far as it is known, and as much as
    MAX_HISTORY_SIZE bytes hold.
    """
    if member.serving is None:
        return ()
    return tuple(_bounded(_ancestors(member.serving.manifest.digest, member.chain, member.past)))


def with_chain(member: Member, chain: Chain) -> Member:
    """`member` with these certificates. Of others that it held the manifests are remembered which come before
    what we sealed or serve: nothing is kept of what somebody showed us in passing.
    """
    known = dict(member.past)
    known.update({digest: link.manifest for digest, link in member.chain.items() if digest not in chain})
    heads = {member.sealed, member.serving.manifest.digest if member.serving else member.sealed}
    lines = (_bounded(_ancestors(head, chain, known)) for head in heads)
    past = {m.digest: m for line in lines for m in line if m.digest not in chain}
    return replace(member, chain=chain, past=past)


def _ancestors(digest: bytes, chain: Chain, past: Past) -> Iterator[Manifest]:
    """`digest` and its predecessors, until one is not known: digests make no circle."""
    while (link := chain[digest].manifest if digest in chain else past.get(digest)) is not None:
        yield link
        digest = link.previous


def _bounded(line: Iterator[Manifest]) -> Iterator[Manifest]:
    room = MAX_HISTORY_SIZE

    def fits(manifest: Manifest) -> bool:
        nonlocal room
        room -= len(manifest.body)
        return room >= 0

    return takewhile(fits, line)
