"""Symbolic signatures are the simulation's alone, and bind key and message as real ones do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership import identity, timers, updates
from toposeal.membership.identity import SignedIdentity, parse_identity, verify_identity
from toposeal.membership.state import Own
from toposeal.topology.accept import accept
from toposeal_lab.simulation.data_plane import DataPlane
from toposeal_lab.simulation.keys import SymbolicKey, make_own, own_of, pooled, symbolic_signatures
from toposeal_lab.simulation.network import signed_topology
from toposeal_lab.simulation.scenario import Scenario
from toposeal_lab.simulation.violation import Violation

TOPOLOGY = signed_topology({"web": (1, 1)})


def _used() -> tuple[object, ...]:
    """What of production the simulation puts something else in the place of."""
    return identity.parse_identity, vars(updates)["accept"], vars(timers)["replace"]


def symbolic_own() -> Own:
    with symbolic_signatures():
        return own_of(pooled(0), pooled(0).symbolic, "web", "10.0.0.1", TOPOLOGY)


def verify(signed: SignedIdentity) -> SignedIdentity:
    read = signed.identity
    return verify_identity(read.body, signed.ik_signature, signed.ca_signature, read.mesh_id, "shop")


def test_E17_production_refuses_symbolic_signatures() -> None:
    """Both of them, each beside a real one; and the simulation takes no real ones."""
    symbolic, real = symbolic_own().signed, make_own(random.Random(1), "web", "10.0.0.1", TOPOLOGY).signed
    mine = own_of(pooled(0), pooled(0).real, "web", "10.0.0.1", TOPOLOGY).signed
    assert mine.identity.body == symbolic.identity.body and verify(mine) and verify(real)
    for ik, ca in ((symbolic, symbolic), (symbolic, mine), (mine, symbolic)):
        with pytest.raises(RemoteProtocolError) as refused:
            verify(SignedIdentity(mine.identity, ik.ik_signature, ca.ca_signature))
        assert refused.value.reason is Reason.SIGNATURE_INVALID
    with symbolic_signatures():
        assert verify(symbolic)
        with pytest.raises(RemoteProtocolError):
            verify(mine)


def test_E17_production_is_as_shipped_after_a_story_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = _used()
    during: list[object] = []
    monkeypatch.setattr(DataPlane, "suspend", lambda *_: during.extend(_used()))
    broken = 0
    for seed in range(40):
        try:
            Scenario(seed).run()
        except Violation:
            broken += 1
        assert _used() == shipped == (parse_identity, accept, replace)
    assert broken and set(during).isdisjoint(shipped)


@pytest.mark.parametrize(
    "change", [lambda m: m[:-1], lambda m: m + b"0", lambda m: b"1" + m[1:], lambda m: b""]
)
def test_a_symbolic_signature_binds_key_and_exact_message(change) -> None:  # type: ignore[no-untyped-def]
    one, other = (SymbolicKey(pooled(number).ik.public_key()) for number in (0, 1))
    signature = one.sign(b"message")
    one.verify(signature, b"message")
    for key, found, message in (
        (one, signature, change(b"message")),
        (one, change(signature), b"message"),
        (other, signature, b"message"),
        (one, pooled(0).ik.sign(b"message"), b"message"),
    ):
        with pytest.raises(InvalidSignature):
            key.verify(found, message)
