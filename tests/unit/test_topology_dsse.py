"""Envelopes: what counts as a signature of the owner over these exact bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.topologies import payload, refusals

from toposeal.errors import Reason
from toposeal.limits import MAX_OWNER_KEYS, MAX_TOPOLOGY_ENVELOPE_SIZE, MAX_TOPOLOGY_SIZE
from toposeal.topology.dsse import PAYLOAD_TYPE, add_signatures, decode_envelope, open_envelope, pae, sign
from toposeal.topology.owner import OwnerRoot, PrivateKey, spki

SIGNATURE, THRESHOLD, MALFORMED = Reason.TOPOLOGY_SIGNATURE, Reason.TOPOLOGY_THRESHOLD, Reason.MALFORMED
ALICE, BOB, CAROL = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))
DAVE = ec.derive_private_key(4, ec.SECP256R1())
MALLORY = Ed25519PrivateKey.from_private_bytes(b"m" * 32)
PAYLOAD = payload()


def _root(*groups: tuple[list[PrivateKey], int]) -> OwnerRoot:
    return OwnerRoot.of([([spki(key.public_key()) for key in keys], k) for keys, k in groups])


ROOT = _root(([ALICE], 1))


def _refused(envelope: bytes, root: OwnerRoot = ROOT) -> set[tuple[Reason, str]]:
    return refusals(lambda: open_envelope(envelope, root))


def _edited(**changes: Any) -> bytes:
    value = {**json.loads(sign(PAYLOAD, [ALICE])), **changes}
    return json.dumps({name: item for name, item in value.items() if item is not None}).encode()


def test_pae_is_that_of_the_specification() -> None:
    encoded = pae("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_an_envelope_opens_to_the_exact_payload() -> None:
    assert open_envelope(sign(PAYLOAD, [ALICE]), ROOT) == PAYLOAD
    assert open_envelope(sign(b"\x00 any bytes", [ALICE]), ROOT) == b"\x00 any bytes"
    assert open_envelope(sign(PAYLOAD, [DAVE]), _root(([DAVE], 1))) == PAYLOAD


def test_signing_is_deterministic() -> None:
    assert sign(PAYLOAD, [ALICE, DAVE]) == sign(PAYLOAD, [ALICE, DAVE])


@pytest.mark.parametrize(
    ("signers", "expected"),
    [
        ([ALICE, BOB], {"signatures of owner.required[1]"}),
        ([ALICE, CAROL], {"signatures of owner.required[0]"}),
        ([CAROL], {"signatures of owner.required[0]"}),
        ([ALICE], {"signatures of owner.required[0]", "signatures of owner.required[1]"}),
        ([ALICE, ALICE], {"signatures of owner.required[0]", "signatures of owner.required[1]"}),
        ([ALICE, MALLORY, CAROL], {"signatures of owner.required[0]"}),
    ],
)
def test_T3_every_group_needs_its_threshold_of_distinct_keys(
    signers: list[PrivateKey], expected: set[str]
) -> None:
    root = _root(([ALICE, BOB, DAVE], 2), ([CAROL], 1))
    assert _refused(sign(PAYLOAD, signers), root) == {(THRESHOLD, field) for field in expected}


@pytest.mark.parametrize("signers", [[ALICE, BOB, CAROL], [DAVE, ALICE, CAROL], [MALLORY, CAROL, BOB, DAVE]])
def test_T3_a_met_threshold_opens_whatever_else_signed(signers: list[PrivateKey]) -> None:
    root = _root(([ALICE, BOB, DAVE], 2), ([CAROL], 1))
    assert open_envelope(sign(PAYLOAD, signers), root) == PAYLOAD


def test_T3_an_unsigned_envelope_is_refused() -> None:
    assert _refused(_edited(signatures=[])) == {(MALFORMED, "envelope.signatures")}
    assert _refused(_edited(signatures=None)) == {(MALFORMED, "envelope.signatures")}
    assert _refused(sign(PAYLOAD, [MALLORY])) == {(SIGNATURE, "signatures")}


def test_T3_a_signature_covers_the_exact_bytes() -> None:
    respelled = base64.b64encode(json.dumps(json.loads(PAYLOAD)).encode()).decode()
    assert _refused(_edited(payload=respelled)) == {(SIGNATURE, "signatures")}


def _signed(message: bytes) -> bytes:
    return _edited(signatures=[{"keyid": "", "sig": base64.b64encode(ALICE.sign(message)).decode()}])


@pytest.mark.parametrize(
    "message",
    [
        PAYLOAD,
        pae("application/json", PAYLOAD),
        pae(PAYLOAD_TYPE + "x", PAYLOAD),
        b"DSSEv1 " + PAYLOAD,
        pae(PAYLOAD_TYPE, PAYLOAD).replace(b"DSSEv1", b"DSSEv2"),
    ],
)
def test_T3_a_signature_of_another_domain_is_refused(message: bytes) -> None:
    assert _refused(_signed(message)) == {(SIGNATURE, "signatures")}
    assert open_envelope(_signed(pae(PAYLOAD_TYPE, PAYLOAD)), ROOT) == PAYLOAD


@pytest.mark.parametrize("kind", ["application/json", "", None, 1, PAYLOAD_TYPE.upper(), PAYLOAD_TYPE + " "])
def test_T3_another_payload_type_is_refused_even_when_signed(kind: Any) -> None:
    assert _refused(_edited(payloadType=kind)) == {(SIGNATURE, "envelope.payloadType")}


def test_T3_the_key_hint_decides_nothing() -> None:
    signature = json.loads(sign(PAYLOAD, [ALICE]))["signatures"][0]["sig"]
    for entry in ({"keyid": "f" * 64, "sig": signature}, {"sig": signature}, {"keyid": "", "sig": signature}):
        assert open_envelope(_edited(signatures=[entry]), ROOT) == PAYLOAD
    hint = json.loads(sign(PAYLOAD, [ALICE]))["signatures"][0]["keyid"]
    forged = json.loads(sign(PAYLOAD, [MALLORY]))["signatures"][0]["sig"]
    assert _refused(_edited(signatures=[{"keyid": hint, "sig": forged}])) == {(SIGNATURE, "signatures")}


def test_T1_keys_twice_in_the_envelope_are_refused_before_signatures_count() -> None:
    envelope = sign(PAYLOAD, [ALICE])
    evil = base64.b64encode(b"{}").decode().encode()
    for text in (
        envelope.replace(b'{"payload":', b'{"payload":"%b","payload":' % evil),
        envelope.replace(b'"sig":', b'"sig":"AAAA","sig":'),
    ):
        assert _refused(text) == {(MALFORMED, "envelope")}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"payload": None}, "envelope.payload"),
        ({"payload": 1}, "envelope.payload"),
        ({"payload": "***"}, "envelope.payload"),
        ({"payload": "é"}, "envelope.payload"),
        ({"payload": "AAA"}, "envelope.payload"),
        ({"payload": "AB=="}, "envelope.payload"),
        ({"signatures": {}}, "envelope.signatures"),
        ({"signatures": [1]}, "envelope.signatures[0]"),
        ({"signatures": [{}]}, "envelope.signatures[0].sig"),
        ({"signatures": [{"sig": None}]}, "envelope.signatures[0].sig"),
        ({"signatures": [{"sig": "AA==", "keyid": 1}]}, "envelope.signatures[0].keyid"),
        ({"signatures": [{"sig": "AA=="}] * (MAX_OWNER_KEYS + 1)}, "envelope.signatures"),
    ],
)
def test_a_malformed_envelope_is_refused_with_its_field(changes: dict[str, Any], field: str) -> None:
    assert _refused(_edited(**changes)) == {(MALFORMED, field)}


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"1", b"\xff", b"{"])
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    assert _refused(data) == {(MALFORMED, "envelope")}


def test_T8_an_envelope_is_bounded() -> None:
    assert _refused(b" " * (MAX_TOPOLOGY_ENVELOPE_SIZE + 1)) == {(Reason.TOO_LARGE, "envelope")}
    assert _refused(sign(b"x" * (MAX_TOPOLOGY_SIZE + 1), [ALICE])) == {(Reason.TOO_LARGE, "envelope.payload")}


def test_dsse_either_alphabet_and_unknown_fields_are_read() -> None:
    """envelope.md 1.0.2 "Parsing rules": consumers must."""
    data = b"\xfb\xff\xfe>>>???"
    envelope = json.loads(sign(data, [ALICE]))
    assert "+" in envelope["payload"] and "/" in envelope["payload"]
    envelope["payload"] = envelope["payload"].replace("+", "-").replace("/", "_")
    envelope["extension"] = {"kind": "x"}
    assert open_envelope(json.dumps(envelope).encode(), ROOT) == data


def test_parties_can_sign_one_after_the_other() -> None:
    root = _root(([ALICE, DAVE], 2))
    first = sign(PAYLOAD, [ALICE])
    assert {reason for reason, _ in _refused(first, root)} == {THRESHOLD}
    both = add_signatures(decode_envelope(first), [DAVE])
    assert open_envelope(both, root) == PAYLOAD
    assert add_signatures(decode_envelope(both), [ALICE, DAVE]) == both
