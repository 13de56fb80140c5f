"""Certificates that a member holds, and how they hang together (PROTOCOL.md 5.4). No IO."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_TRAIL
from toposeal.membership.leave import SignedLeave
from toposeal.membership.manifest import Manifest
from toposeal.membership.sealed import SealedManifest


@dataclass(frozen=True)
class Certificate:
    """n verified COMMITs over one D, and the SEALED of those of its members that are known to have sealed."""

    sealed: SealedManifest
    seals: Mapping[bytes, bytes]  # iid -> IK over its SEALED, 64
    leave: SignedLeave | None = None  # for this manifest, which does not list its sender

    @property
    def manifest(self) -> Manifest:
        return self.sealed.manifest

    @property
    def digest(self) -> bytes:
        return self.sealed.manifest.digest

    @property
    def lineage(self) -> bytes:
        """D of the genesis that it descends from; its own if it is one."""
        return self.digest if self.manifest.is_genesis else self.manifest.lineage

    @property
    def proven(self) -> bool:
        """Active somewhere once, beyond doubt: SEALED of every member, nothing less."""
        return len(self.seals) == len(self.manifest.members)

    def with_seal(self, iid: bytes, signature: bytes) -> Certificate:
        """`iid` is a member, and the signature is verified."""
        return self if iid in self.seals else replace(self, seals={**self.seals, iid: signature})


Chain = Mapping[bytes, Certificate]  # by D


def trail(chain: Chain, digest: bytes) -> tuple[Certificate, ...] | None:
    """`digest` and its ancestors back to the last one that is proven active, or to the genesis.

    None while one of them is not held, or where there are more than MAX_TRAIL.
    """
    found: list[Certificate] = []
    while digest != ZERO_DIGEST and not (found and found[-1].proven):
        link = chain.get(digest)
        if link is None or len(found) == MAX_TRAIL:
            return None
        found.append(link)
        digest = link.manifest.previous
    return tuple(found)


def missing(chain: Chain, digest: bytes) -> bytes | None:
    """The first certificate that `trail` lacks; None where it lacks none."""
    for _ in range(MAX_TRAIL):
        link = chain.get(digest)
        if link is None:
            return digest if digest != ZERO_DIGEST else None
        if link.proven:
            return None
        digest = link.manifest.previous
    return None


def majority(path: Sequence[Certificate], iids: Collection[bytes]) -> bool:
    """Check 9: more than half of the members of every one of `path`, newest first, are in `iids` or have left
    to a later one of it.
    """
    members = set(iids)
    for link in path:
        if 2 * len(link.sealed.iids & members) <= len(link.sealed.iids):
            return False
        if link.leave is not None:
            members.add(link.leave.sender)
    return True


def descends(chain: Chain, digest: bytes, ancestor: bytes) -> bool | None:
    """Whether `digest` is `ancestor` or comes after it; everything comes after nothing (zero).

    None while a link is missing. Manifests that are proven active form one chain, so between two of one
    lineage no link is asked for.
    """
    if ancestor == ZERO_DIGEST:
        return True
    first = chain[ancestor]
    while digest != ancestor:
        if digest == ZERO_DIGEST:
            return False
        link = chain.get(digest)
        if link is None:
            return None
        if link.lineage != first.lineage or link.manifest.epoch <= first.manifest.epoch:
            return False
        if link.proven and first.proven:
            return True
        digest = link.manifest.previous
    return True


def listed_since(chain: Chain, digest: bytes, ancestor: bytes, iid: bytes) -> bool:
    """Whether `digest` is `ancestor`, or every manifest from there on is held and lists `iid`."""
    while digest != ancestor:
        link = chain.get(digest)
        if link is None or iid not in link.sealed.iids:
            return False
        digest = link.manifest.previous
    return True
