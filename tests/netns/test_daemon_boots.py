"""K8, fault 24: one pair of pods that boots twice, the second time with other addresses, all of them IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from cryptography import x509
from support.daemons import FETCH, PORT, SEAL_S, SERVE, Daemon, World, eventually, kinds, ready, world
from support.datapath import Hand
from support.inside import APP_UID, run_python, spawn_python
from support.keys import eventually_leaf

from toposeal.limits import PEER_PORT
from toposeal_lab.pods import NODE_IPV6
from toposeal_lab.stolen import corrupt

LEAF_MS = 12_000  # renewed after 6 s
LATER = {"web": "fd70:7365:616c::a1", "db": "fd70:7365:616c::a2"}


@dataclass(frozen=True)
class Leaf:
    """What Envoy was given at some moment: enough to be its member for whoever steals it."""

    chain: str
    key: str

    @classmethod
    def of(cls, member: Daemon) -> Leaf:
        found = eventually_leaf(kinds(member)["envoy"]).credential
        return cls(found.chain, found.key)

    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.chain.encode())[0]

    def domain(self) -> str:
        names = self.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        return uri.removeprefix("spiffe://").partition("/")[0]


@dataclass
class Boots:
    """web's leaves by moment: of the first boot, of it renewed, of the second; and one that the CA of the
    first boot signed for the thief, which is not over so soon.
    """

    world: World
    leaves: dict[str, Leaf] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def fetch(self) -> str:
        return run_python(self.world["web"].pod, FETCH, "db", str(PORT), uid=APP_UID).strip()

    def stolen(self, leaf: str, named: str, address: str) -> bytes:
        """What the node gets from db with web's `leaf`, calling itself as the leaf `named` does."""
        shown = self.leaves[leaf]
        hand = Hand(self.world.node.host(), shown.chain, shown.key, self.leaves[named].domain())
        return hand.call(address, PORT)


def boot(made: World, *more: str, peers: str | None = None) -> None:
    """`more` for web alone."""
    changed = {"peers": peers} if peers else None
    for name in made.members:
        made.start(name, *(more if name == "web" else ()), changed=changed)
    for member in made.members.values():
        eventually(lambda m=member: opened(m) or None, SEAL_S)  # type: ignore[misc]


def opened(member: Daemon) -> bool:
    """In this boot: the journal goes on."""
    states = [event.get("state") for event in member.journal() if event["event"] in ("gate", "stop")]
    return states[-1:] == ["open"]


@pytest.fixture(scope="module")
def boots() -> Iterator[Boots]:
    ready()
    with world({"web": "web", "db": "db"}, leaf_ms=LEAF_MS) as made:
        spawn_python(made["db"].pod, SERVE, str(PORT), uid=APP_UID)
        found = Boots(made)
        boot(made, "--insider", str(made.directory / "insider.pem"))
        found.answers["first"] = found.fetch()
        found.leaves["first"] = Leaf.of(made["web"])
        eventually(lambda: Leaf.of(made["web"]) != found.leaves["first"] or None, LEAF_MS / 1000)
        found.leaves["renewed"] = Leaf.of(made["web"])
        insider = corrupt(made["web"], made.directory / "insider.pem")
        minted = insider.mint(insider.own.uri)
        found.leaves["minted"] = Leaf(minted.chain, minted.key)
        for name in ("renewed", "minted"):
            found.answers[f"stolen {name}"] = found.stolen(name, name, made["db"].pod.ipv4).decode()
        for member in made.members.values():
            member.stop()
            move(member)
        boot(made, peers=",".join(f"[{address}]:{PEER_PORT}" for address in LATER.values()))
        found.leaves["second"] = Leaf.of(made["web"])
        yield found


def move(member: Daemon) -> None:
    """No IPv4 any more, another IPv6 address, and with it a resolver that can be asked."""
    pod = member.pod
    for command in (
        f"address del {pod.ipv4}/24 dev eth0",
        f"address del {pod.ipv6}/64 dev eth0",
        f"address add {LATER[pod.name]}/64 dev eth0 nodad",
        f"-6 route replace default via {NODE_IPV6}",
    ):
        pod.run(["ip", *command.split()])
    pod.write_etc("resolv.conf", f"nameserver {NODE_IPV6}\n")


def test_fault_24_pods_with_other_addresses_and_without_ipv4_seal_and_serve(boots: Boots) -> None:
    assert boots.answers["first"] == "PLAIN"
    assert boots.fetch() == "PLAIN"
    found = boots.world["web"].pod.run(["ip", "-4", "-o", "address", "show", "dev", "eth0"]).stdout
    assert found == b""


def test_K8_inside_a_boot_the_leaf_is_new_and_the_ca_stays(boots: Boots) -> None:
    first, renewed = boots.leaves["first"], boots.leaves["renewed"]
    assert first.key != renewed.key
    assert first.domain() == renewed.domain()
    assert first.certificate().issuer == renewed.certificate().issuer
    assert (boots.answers["stolen renewed"], boots.answers["stolen minted"]) == ("PLAIN", "PLAIN")


def test_K8_a_new_boot_has_a_new_ca_and_a_new_key(boots: Boots) -> None:
    first, second = boots.leaves["first"], boots.leaves["second"]
    assert first.key != second.key
    assert first.domain() != second.domain()
    assert first.certificate().issuer != second.certificate().issuer


@pytest.mark.parametrize("named", ["minted", "second"])
def test_K8_a_leaf_of_an_earlier_boot_is_refused(boots: Boots, named: str) -> None:
    """Under its own name and under the new one; the leaf that serves now is the control."""
    boots.leaves["now"] = Leaf.of(boots.world["web"])
    assert boots.stolen("now", "now", LATER["db"]) == b"PLAIN"
    for leaf in ("renewed", "minted"):
        assert boots.stolen(leaf, named, LATER["db"]) == b""
    assert boots.leaves["minted"].certificate().not_valid_after_utc > datetime.now(UTC)
