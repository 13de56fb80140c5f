"""DSSE v1 envelopes over exact payload bytes, counted against the owner root. No IO.

Spec: github.com/secure-systems-lab/dsse, protocol.md and envelope.md 1.0.2. As it demands, either
base64 alphabet is read, unknown envelope fields are ignored, and `keyid` decides nothing. ECDSA
signatures are DER, as securesystemslib and sigstore write them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_OWNER_KEYS, MAX_TOPOLOGY_ENVELOPE_SIZE, MAX_TOPOLOGY_SIZE
from toposeal.topology import strict_json
from toposeal.topology.owner import OwnerKey, OwnerRoot, PrivateKey, spki
from toposeal.topology.schema import mismatch

PAYLOAD_TYPE = "application/vnd.toposeal.topology.v1+json"


@dataclass(frozen=True)
class Envelope:
    """A decoded envelope. Nothing in it is authentic yet."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (keyid, signature)

    def signers(self, root: OwnerRoot) -> frozenset[OwnerKey]:
        """The keys of `root` that signed the payload; signatures of other keys are passed over."""
        message = pae(PAYLOAD_TYPE, self.payload)
        return frozenset(
            key
            for key in root.keys
            if any(key.has_signed(message, signature) for _, signature in self.signatures)
        )

    def encode(self) -> bytes:
        """The JSON envelope."""
        signatures = [{"keyid": keyid, "sig": _base64(sig)} for keyid, sig in self.signatures]
        return strict_json.canonical(
            {"payload": _base64(self.payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
        )


def sign(payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """An envelope over exactly `payload` with one signature of each key."""
    return Envelope(payload, tuple(_signatures(payload, keys))).encode()


def add_signatures(envelope: Envelope, keys: Sequence[PrivateKey]) -> bytes:
    """`envelope` with one more signature of each key over the same payload; equal ones are kept once."""
    signatures = dict.fromkeys([*envelope.signatures, *_signatures(envelope.payload, keys)])
    return Envelope(envelope.payload, tuple(signatures)).encode()


def open_envelope(envelope: bytes, root: OwnerRoot) -> bytes:
    """The payload, once every group of `root` has signed its exact bytes.

    Raises TopologyError: TOO_LARGE or MALFORMED, TOPOLOGY_SIGNATURE for another payload type or
    when no key of `root` signed, TOPOLOGY_THRESHOLD naming every group that fell short.
    """
    decoded = decode_envelope(envelope)
    check_signers(decoded.signers(root), root)
    return decoded.payload


def check_signers(signers: Collection[OwnerKey], root: OwnerRoot) -> None:
    """Raise TopologyError unless `signers` satisfy every group of `root`."""
    if not signers:
        expected = "a signature over these exact bytes by a key of the owner root"
        raise TopologyError.of(Reason.TOPOLOGY_SIGNATURE, "signatures", "none that holds", expected)
    unmet = tuple(root.unmet(signers))
    if unmet:
        raise TopologyError(*unmet)


def decode_envelope(envelope: bytes) -> Envelope:
    """Decode without verifying anything but form, payload type and limits."""
    value = strict_json.parse(envelope, "envelope", MAX_TOPOLOGY_ENVELOPE_SIZE)
    if not isinstance(value, dict):
        raise _malformed("envelope", value, "a DSSE envelope, a JSON object")
    if value.get("payloadType") != PAYLOAD_TYPE:
        found = str(value.get("payloadType", "nothing"))
        raise TopologyError.of(Reason.TOPOLOGY_SIGNATURE, "envelope.payloadType", found, PAYLOAD_TYPE)
    payload = _bytes(value.get("payload"), "envelope.payload")
    if len(payload) > MAX_TOPOLOGY_SIZE:
        limit = f"at most {MAX_TOPOLOGY_SIZE}"
        raise TopologyError.of(Reason.TOO_LARGE, "envelope.payload", f"{len(payload)} bytes", limit)
    listed = value.get("signatures")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_OWNER_KEYS:
        raise _malformed("envelope.signatures", listed, f"a list of 1 to {MAX_OWNER_KEYS} signatures")
    entries = tuple(_signature(item, f"envelope.signatures[{i}]") for i, item in enumerate(listed))
    return Envelope(payload, entries)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: what is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _signatures(payload: bytes, keys: Iterable[PrivateKey]) -> Iterable[tuple[str, bytes]]:
    message = pae(PAYLOAD_TYPE, payload)
    for key in keys:
        keyid = hashlib.sha256(spki(key.public_key())).hexdigest()
        if isinstance(key, Ed25519PrivateKey):
            yield keyid, key.sign(message)
        else:
            yield keyid, key.sign(message, ECDSA(SHA256(), deterministic_signing=True))


def _signature(value: object, path: str) -> tuple[str, bytes]:
    if not isinstance(value, dict):
        raise _malformed(path, value, "an object with sig and, if any, keyid")
    keyid = value.get("keyid", "")
    if not isinstance(keyid, str):
        raise _malformed(f"{path}.keyid", keyid, "a string")
    return keyid, _bytes(value.get("sig"), f"{path}.sig")


def _bytes(value: object, path: str) -> bytes:
    """Base64 in either alphabet, padded, with no other spelling of the same bytes."""
    if not isinstance(value, str):
        raise _malformed(path, value, "a base64 string")
    standard = value.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(path, value, "base64") from error
    if _base64(data) != standard:
        raise _malformed(path, value, "base64 with zero bits at its end")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _malformed(path: str, found: object, expected: str) -> TopologyError:
    return TopologyError(mismatch(path, found, expected, Reason.MALFORMED))
