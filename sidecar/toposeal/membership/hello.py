"""HELLO: one member's offer for one attempt (PROTOCOL.md 4.2). No IO."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, digest, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_ADDRESSES
from toposeal.membership.fields import digest_field, epoch_field, nonce_field
from toposeal.membership.identity import Identity
from toposeal.membership.manifest import Entry
from toposeal.membership.signing import SigningKeys, Tag, verify_ik
from toposeal.topology.egress import is_nowhere
from toposeal.topology.model import Topology

_MAX_HELLO_SIZE = 1024


@dataclass(frozen=True)
class Hello:
    """A HELLO whose signature verified under the IK of the identity it names."""

    body: bytes
    signature: bytes
    hello_digest: bytes  # 48
    id_digest: bytes  # 48
    topology_version: int
    topology_digest: bytes  # 48
    target_epoch: int
    nonce: bytes  # 32
    aux_digest: bytes  # 48
    addresses: tuple[str, ...]
    sealed: bytes  # 48: the last manifest that the sender sealed, zero before the first
    previous: bytes  # 48: what this attempt follows, zero for a genesis

    def entry(self, identity: Identity) -> Entry:
        """The manifest entry that this HELLO asks for."""
        return Entry(
            role=identity.role,
            iid=identity.iid,
            id_digest=identity.id_digest,
            hello_digest=self.hello_digest,
            ca_digest=identity.ca.ca_digest,
            nonce=self.nonce,
            aux_digest=self.aux_digest,
        )


def make_hello(
    keys: SigningKeys,
    identity: Identity,
    topology: Topology,
    target_epoch: int,
    nonce: bytes,
    addresses: tuple[str, ...],
    aux: bytes = ZERO_DIGEST,
    sealed: bytes = ZERO_DIGEST,
    previous: bytes = ZERO_DIGEST,
) -> Hello:
    """Build, sign and read back the own HELLO for one attempt; `nonce` is 32 fresh random bytes, `aux`
    the digest (48) of the auxiliary evidence that came with JOIN, the others those of manifests."""
    body = encode(
        wire.Hello(
            id_digest=identity.id_digest,
            topology_version=topology.version,
            topology_digest=topology.digest,
            target_epoch=target_epoch,
            nonce=nonce,
            aux_digest=aux,
            addresses=addresses,
            sealed=sealed,
            previous=previous,
        )
    )
    return verify_hello(body, keys.sign(Tag.HELLO, body), identity)


def verify_hello(body: bytes, signature: bytes, identity: Identity) -> Hello:
    """Parse `body` as the HELLO of `identity` and check its signature. Raises RemoteProtocolError."""
    message = decode(wire.Hello, body, "hello", _MAX_HELLO_SIZE)
    if message.id_digest != identity.id_digest:
        raise RemoteProtocolError.of(
            Reason.IDENTITY_MISMATCH, "hello.id_digest", message.id_digest, identity.id_digest.hex()
        )
    verify_ik(identity.ik, Tag.HELLO, body, signature)
    return Hello(
        body=body,
        signature=signature,
        hello_digest=digest("toposeal/v1/hello", body),
        id_digest=message.id_digest,
        topology_version=epoch_field(message.topology_version, "hello.topology_version"),
        topology_digest=digest_field(message.topology_digest, "hello.topology_digest"),
        target_epoch=epoch_field(message.target_epoch, "hello.target_epoch"),
        nonce=nonce_field(message.nonce, "hello.nonce"),
        aux_digest=digest_field(message.aux_digest, "hello.aux_digest"),
        addresses=check_addresses(message.addresses),
        sealed=digest_field(message.sealed, "hello.sealed"),
        previous=digest_field(message.previous, "hello.previous"),
    )


def peek_id_digest(body: bytes) -> bytes:
    """The identity that a HELLO claims, before its signature can be checked."""
    return digest_field(decode(wire.Hello, body, "hello", _MAX_HELLO_SIZE).id_digest, "hello.id_digest")


def check_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """1 to 8 distinct canonical IP literals that a peer may be told to dial (P5)."""
    found = tuple(addresses)
    if not 1 <= len(found) <= MAX_ADDRESSES or len(set(found)) != len(found):
        raise _refused(len(found), f"1 to {MAX_ADDRESSES} distinct addresses")
    for text in found:
        _check_address(text)
    return found


def _check_address(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise _refused(text, "an IP literal") from error
    if str(address) != text or getattr(address, "scope_id", None):
        raise _refused(text, str(address))
    if is_nowhere(address):
        raise _refused(text, "an address of a pod")


def _refused(found: object, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.ADDRESS_REFUSED, "hello.addresses", found, expected)
