"""The worked vector of PROTOCOL.md 11, computed a second time: hashlib and hand-made protobuf alone.

Nothing of toposeal is imported but the minting of the CA, which is an input here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from toposeal.pki.mint import mint_ca

MESH = "shop"
OWNER_ROOT = b'{"required":[[["MCowBQYDK2VwAyEA"],1]]}'
PAYLOAD = b'{"mesh":"shop","version":7}'
VERSION, EPOCH = 7, 3
NOT_BEFORE = 1_800_000_000
CHALLENGE = bytes([0x77]) * 32
BEAT, ANSWERED = bytes([0x55]) * 32, bytes([0x66]) * 32
ZERO = bytes(48)


def lp(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def transcript(tag: str, *parts: bytes) -> bytes:
    return tag.encode() + b"".join(lp(part) for part in parts)


def h(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha384(transcript(tag, *parts)).digest()


def varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def octets(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


@dataclass(frozen=True)
class Pod:
    """One member: `seed` fills its private keys and, plus one, its nonce."""

    role: str
    seed: int

    @property
    def ik(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(bytes([self.seed]) * 32)

    @property
    def ik_spki(self) -> bytes:
        return self.ik.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def iid(self) -> bytes:
        return h("toposeal/v1/instance", self.ik_spki)

    @property
    def ca_certificate(self) -> bytes:
        return mint_ca(self.ca_key, MESH, (1 << 158) + self.seed, NOT_BEFORE)

    @property
    def ca_spki(self) -> bytes:
        return self.ca_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def ca_digest(self) -> bytes:
        return h("toposeal/v1/ca", self.ca_spki)

    @property
    def domain(self) -> str:
        return f"m-{self.ca_digest.hex()[:32]}.{MESH}"

    @property
    def nonce(self) -> bytes:
        return bytes([self.seed + 1]) * 32

    @property
    def identity(self) -> bytes:
        return (
            number(1, 1)
            + octets(2, MESH_ID)
            + octets(3, self.role.encode())
            + octets(4, self.iid)
            + octets(5, self.ik_spki)
            + octets(6, self.ca_certificate)
        )

    @property
    def id_digest(self) -> bytes:
        return h("toposeal/v1/identity", self.identity)

    @property
    def hello(self) -> bytes:
        return (
            octets(1, self.id_digest)
            + number(2, VERSION)
            + octets(3, TOPO_DIGEST)
            + number(4, EPOCH)
            + octets(5, self.nonce)
            + octets(6, ZERO)
            + octets(7, f"10.0.0.{self.seed}".encode())
            + octets(8, ZERO)
            + octets(9, ZERO)
        )

    @property
    def hello_digest(self) -> bytes:
        return h("toposeal/v1/hello", self.hello)

    @property
    def entry(self) -> bytes:
        return (
            octets(1, self.role.encode())
            + octets(2, self.iid)
            + octets(3, self.id_digest)
            + octets(4, self.hello_digest)
            + octets(5, self.ca_digest)
            + octets(6, self.nonce)
            + octets(7, ZERO)
        )

    @property
    def decision(self) -> bytes:
        return octets(1, self.iid) + number(2, EPOCH) + octets(3, D)

    def heartbeat(self, receiver: Pod) -> bytes:
        """That it holds D, in answer to the receiver's last nonce."""
        return (
            octets(1, self.iid)
            + octets(2, receiver.iid)
            + octets(3, BEAT)
            + octets(4, ANSWERED)
            + octets(5, D)
        )

    def want(self, receiver: Pod) -> bytes:
        """The second record of the certificate over D."""
        return octets(1, self.iid) + octets(2, receiver.iid) + octets(3, D) + number(4, 1)

    @property
    def leave(self) -> bytes:
        """LEAVE as it travels: it carries its key, and its sender is not listed in D."""
        decision = self.decision
        return octets(1, self.ik_spki) + octets(2, decision) + octets(3, self.sign("leave", decision))

    def sign(self, name: str, body: bytes) -> bytes:
        return self.ik.sign(transcript(f"toposeal/v1/sig/{name}", body))

    def sign_ca(self, name: str, body: bytes) -> bytes:
        message = transcript(f"toposeal/v1/sig/{name}", body)
        return self.ca_key.sign(message, ECDSA(SHA256(), deterministic_signing=True))

    def report_data(self, purpose: str) -> bytes:
        join = purpose == "JOIN"
        return hashlib.sha512(
            b"toposeal/v1/rd"
            + bytes([{"JOIN": 1, "SEAL": 2, "LIVE": 3}[purpose]])
            + MESH_ID
            + (ZERO if join else TOPO_DIGEST)
            + (0 if join else EPOCH).to_bytes(8, "big")
            + (ZERO if join else D)
            + lp(self.role.encode())
            + self.iid
            + (self.id_digest if join else self.hello_digest)
            + (CHALLENGE if purpose == "LIVE" else bytes(32))
            + bytes([{"JOIN": 0, "SEAL": 1, "LIVE": 3}[purpose]])
        ).digest()

    @property
    def ca_key(self) -> EllipticCurvePrivateKey:
        return derive_private_key(int.from_bytes(bytes([self.seed]) * 32, "big"), SECP256R1())


MESH_ID = h("toposeal/v1/mesh", OWNER_ROOT, MESH.encode())
TOPO_DIGEST = h("toposeal/v1/topology", PAYLOAD)
DB, WEB = Pod("db", 0x11), Pod("web", 0x21)
GONE = Pod("db", 0x31)  # who leaves
MANIFEST = (
    number(1, 1)
    + octets(2, MESH_ID)
    + number(3, VERSION)
    + octets(4, TOPO_DIGEST)
    + octets(5, ZERO)
    + number(6, EPOCH)
    + octets(7, ZERO)
    + b"".join(octets(8, pod.entry) for pod in (DB, WEB))
)
D = h("toposeal/v1/manifest", MANIFEST)


def page() -> str:
    """The block of PROTOCOL.md 11."""
    values: list[tuple[str, bytes | str]] = [
        ("owner root", OWNER_ROOT.decode()),
        ("mesh", MESH),
        ("mesh_id", MESH_ID),
        ("DSSE payload", PAYLOAD.decode()),
        ("topo_digest", TOPO_DIGEST),
        ("db SPKI(IK)", DB.ik_spki),
        ("db iid", DB.iid),
        ("db CA certificate", DB.ca_certificate),
        ("db ca_digest", DB.ca_digest),
        ("db domain", DB.domain),
        ("db Identity", DB.identity),
        ("db id_digest", DB.id_digest),
        ("db IK over IDENTITY", DB.sign("identity", DB.identity)),
        ("db CA over IDENTITY", DB.sign_ca("identity", DB.identity)),
        ("db Hello", DB.hello),
        ("db hello_digest", DB.hello_digest),
        ("db IK over HELLO", DB.sign("hello", DB.hello)),
        ("Manifest", MANIFEST),
        ("D", D),
        ("db report_data JOIN", DB.report_data("JOIN")),
        ("db report_data SEAL", DB.report_data("SEAL")),
        ("db report_data LIVE", DB.report_data("LIVE")),
        ("db Decision", DB.decision),
        ("db IK over PROPOSE", DB.sign("propose", DB.decision)),
        ("db IK over COMMIT", DB.sign("commit", DB.decision)),
        ("db CA over COMMIT", DB.sign_ca("commit", DB.decision)),
        ("db IK over SEALED", DB.sign("sealed", DB.decision)),
        ("db Heartbeat", DB.heartbeat(WEB)),
        ("db IK over HEARTBEAT", DB.sign("heartbeat", DB.heartbeat(WEB))),
        ("db Want", DB.want(WEB)),
        ("db IK over WANT", DB.sign("want", DB.want(WEB))),
        ("gone iid", GONE.iid),
        ("gone Leave", GONE.leave),
    ]
    return "\n".join(_block(name, value) for name, value in values)


def _block(name: str, value: bytes | str) -> str:
    if isinstance(value, str):
        return f"{name:<20} {value}"
    digits = value.hex()
    lines = [digits[at : at + 128] for at in range(0, len(digits), 128)]
    return f"{name:<20} " + ("\n" + " " * 21).join(lines)
