"""Every parser of the owner's files accepts or refuses with a typed error, whatever the bytes."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st
from property.strategies import documents, payloads

from toposeal.errors import TopologyError
from toposeal.topology import strict_json
from toposeal.topology.accept import accept
from toposeal.topology.author import payload_from_yaml
from toposeal.topology.dsse import decode_envelope, open_envelope, sign
from toposeal.topology.owner import OwnerRoot, PrivateKey, spki
from toposeal.topology.parse import parse_topology

KEYS: list[PrivateKey] = [
    *(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4)),
    derive_private_key(5, SECP256R1()),
]
ROOT = OwnerRoot.of([([spki(KEYS[0].public_key())], 1)])
OWNER_FILE = OwnerRoot.of([([spki(key.public_key()) for key in KEYS], 2)]).canonical
ENVELOPE = sign(b"payload", KEYS[:1])

_json_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 64), 1 << 64),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["any", "UpToDate", "instance", "web", "00" * 48, "INTEL-SA-00001"]),
)
_json = st.recursive(
    _json_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["mesh", "roles", "tdx", "snp", "gpus", "required", "payload", "signatures"]),
                st.text(max_size=5),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def _accepted_or_refused(call: Callable[[], object]) -> None:
    """The one invariant: nothing but TopologyError comes out."""
    try:
        call()
    except TopologyError as error:
        assert error.mismatches
        assert str(error).isprintable() and str(error).isascii()


def _bytes_like(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, arbitrary JSON, and valid texts with a few bytes changed."""
    return st.one_of(
        st.binary(max_size=200),
        _json.map(lambda value: json.dumps(value).encode()),
        st.tuples(st.sampled_from(valid), st.randoms(use_true_random=False), st.integers(1, 4)).map(_mutated),
    )


def _mutated(given_: tuple[bytes, random.Random, int]) -> bytes:
    data, dice, count = bytearray(given_[0]), given_[1], given_[2]
    for _ in range(count):
        place = dice.randrange(len(data))
        kind = dice.randrange(3)
        if kind == 0:
            data[place] = dice.choice(b'"\\{}[]:,019eEn.- \x00\xff&*!<')
        elif kind == 1:
            del data[place]
        else:
            data[place:place] = data[: dice.randrange(8)]
        data = data or bytearray(b"x")
    return bytes(data)


_VALID = strict_json.canonical(
    {
        "mesh": "shop",
        "version": 1,
        "issued_at": 1,
        "owner_root": "00" * 48,
        "attestation_port": 8444,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {},
    }
)


@given(_bytes_like(_VALID))
def test_any_bytes_are_a_topology_or_refused(data: bytes) -> None:
    _accepted_or_refused(lambda: parse_topology(data))


@given(payloads(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_damaged_topology_is_refused_or_is_canonical(data: bytes, dice: random.Random, count: int) -> None:
    damaged = _mutated((data, dice, count))
    _accepted_or_refused(lambda: parse_topology(damaged))


@given(_bytes_like(OWNER_FILE))
def test_any_bytes_are_an_owner_root_or_refused(data: bytes) -> None:
    _accepted_or_refused(lambda: OwnerRoot.parse(data))


@given(_bytes_like(ENVELOPE))
def test_any_bytes_are_an_envelope_or_refused(data: bytes) -> None:
    _accepted_or_refused(lambda: open_envelope(data, ROOT))


_YAML = b"mesh: shop\nversion: 1\nissued_at: 2026-01-01T00:00:00Z\nroles: {web: {serves: [80]}}\n# end\n"


@given(_bytes_like(_YAML))
def test_any_bytes_are_yaml_or_refused(data: bytes) -> None:
    _accepted_or_refused(lambda: payload_from_yaml(data, ROOT))


@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%@#\\ \n\t0x1.~<=U", max_size=60))
def test_any_yaml_syntax_is_read_or_refused(text: str) -> None:
    _accepted_or_refused(lambda: payload_from_yaml(text.encode(), ROOT))


@given(_json)
def test_any_value_in_the_place_of_a_topology_is_refused(value: Any) -> None:
    try:
        data = strict_json.canonical(value)
    except ValueError:
        assume(False)
    _accepted_or_refused(lambda: parse_topology(data))


class _Quoted(yaml.SafeDumper):
    """Quotes every text: left bare, digits alone would be refused as they should."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Quoted.add_representer(str, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@given(documents(1, 2))
def test_authoring_in_yaml_makes_the_same_payload(document: dict[str, Any]) -> None:
    authored = {name: value for name, value in document.items() if name != "owner_root"}
    authored["issued_at"] = _rfc3339(document["issued_at"])
    expected = strict_json.canonical({**document, "owner_root": ROOT.digest.hex()})
    assert payload_from_yaml(yaml.dump(authored, Dumper=_Quoted).encode(), ROOT) == expected
    assert payload_from_yaml(json.dumps(authored).encode(), ROOT) == expected


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@given(documents(1, 1), st.sets(st.integers(0, 3), min_size=1), st.integers(1, 4))
def test_what_the_threshold_signed_is_accepted_and_nothing_else(
    document: dict[str, Any], signers: set[int], threshold: int
) -> None:
    root = OwnerRoot.of([([spki(key.public_key()) for key in KEYS], threshold)])
    payload = strict_json.canonical({**document, "owner_root": root.digest.hex()})
    envelope = sign(payload, [KEYS[i] for i in sorted(signers)])
    if len(signers) >= threshold:
        assert accept(envelope, root, document["mesh"], document["version"]).topology == parse_topology(
            payload
        )
    else:
        _accepted_or_refused(lambda: accept(envelope, root, document["mesh"], 1))
        assert not _opens(envelope, root)


def _opens(envelope: bytes, root: OwnerRoot) -> bool:
    try:
        open_envelope(envelope, root)
    except TopologyError:
        return False
    return True


@given(st.integers(0, len(ENVELOPE) - 1), st.integers(1, 255))
def test_no_changed_byte_of_an_envelope_changes_the_payload(place: int, flip: int) -> None:
    """Whatever still opens, opens to what was signed."""
    damaged = bytearray(ENVELOPE)
    damaged[place] ^= flip
    try:
        assert open_envelope(bytes(damaged), ROOT) == b"payload"
    except TopologyError as error:
        assert error.mismatches


@given(st.sampled_from(KEYS), st.binary(max_size=64), st.data())
def test_no_changed_bit_of_a_signature_or_payload_verifies(
    key: PrivateKey, payload: bytes, data: st.DataObject
) -> None:
    root = OwnerRoot.of([([spki(key.public_key())], 1)])
    envelope = json.loads(sign(payload, [key]))
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    if payload and data.draw(st.booleans()):
        payload = _flipped(payload, data)
    else:
        signature = bytearray(_flipped(bytes(signature), data))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    assert not _opens(json.dumps(envelope).encode(), root)


def _flipped(value: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(value)
    changed[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return bytes(changed)


@given(st.binary(max_size=100), st.lists(st.sampled_from(KEYS), min_size=1, max_size=4))
def test_an_envelope_reads_back_what_was_written(payload: bytes, keys: list[PrivateKey]) -> None:
    envelope = decode_envelope(sign(payload, keys))
    assert envelope.payload == payload
    assert len(envelope.signatures) == len(keys)
