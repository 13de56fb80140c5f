"""A host that lies: about names, and about who is behind an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pyroute2 import IPRoute

from toposeal_lab.attacks.stage import Stage, redis_ping, witnessed
from toposeal_lab.checks import expect
from toposeal_lab.clients import Credential
from toposeal_lab.forge import stranger
from toposeal_lab.pods import Pod
from toposeal_lab.rogue import SPOIL, impostor, lying_resolver
from toposeal_lab.scenario import REDIS_PORT
from toposeal_lab.stolen import Insider, steal

_ROGUE = SPOIL[1:].strip().decode()  # as redis-cli shows it


def run(stage: Stage, insider: Insider) -> None:
    """api dials `db`; the host wants it to arrive at the rogue pod."""
    with impostor(stage.rogue, REDIS_PORT):
        _lying_resolver(stage)
        _lying_hosts(stage)
    _taken_address(stage, insider)


def _lying_resolver(stage: Stage) -> None:
    """The resolver of every pod's /etc/resolv.conf says that `db` is the rogue pod."""
    client = stage.member("api-1").pod
    with lying_resolver(stage.world.outside, stage.rogue.ipv4) as asked:

        def never_asked() -> str:
            asked.clear()
            observed = _reaches(client, "PONG")
            expect(not asked, f"{len(asked)} questions reached the liar", "none")
            return f"{observed}, the liar was asked nothing"

        stage.checks.attack(
            "a lying resolver does not misroute", lambda: _reaches(stage.bystander, _ROGUE), never_asked
        )


def _lying_hosts(stage: Stage) -> None:
    """The pods' /etc/hosts says so. The application then dials an address that stands for no role."""
    client = stage.member("api-1")
    with _hosts(stage.bystander, stage.rogue), _hosts(client.pod, stage.rogue):
        stage.checks.attack(
            "a lying /etc/hosts does not misroute",
            lambda: _reaches(stage.bystander, _ROGUE),
            lambda: witnessed(client, lambda: _does_not_reach(client.pod)),
        )


def _taken_address(stage: Stage, insider: Insider) -> None:
    """The rogue pod has db's addresses, on the wire and in every neighbour table."""
    client, db = stage.member("api-1"), steal(stage.member("db"))
    api, web = steal(client), insider.own
    servers: dict[str, Credential | None] = {
        "in plaintext": None,
        "with a leaf [db] of an unknown CA": stranger([db.uri]),
        "with api's own leaf": api.credential,
        "with a leaf [db] of web's CA": insider.mint(db.uri),
        "with a leaf [web, db] of web's CA": insider.mint(web.uri, db.uri),
    }
    with _taken(stage, stage.member("db").pod):
        for name, credential in servers.items():
            stage.checks.attack(
                f"db's address taken over by a server {name}: not reached",
                partial(_served, stage, client.pod, db.credential),
                partial(_not_served, stage, credential),
            )


def _served(stage: Stage, client: Pod, credential: Credential) -> str:
    """With db's own key the impostor is reached: the address really leads to it."""
    with impostor(stage.rogue, REDIS_PORT, credential):
        return f"with db's own leaf {_reaches(client, _ROGUE)}"


def _not_served(stage: Stage, credential: Credential | None) -> str:
    client = stage.member("api-1")
    with impostor(stage.rogue, REDIS_PORT, credential) as caught:
        observed = witnessed(client, lambda: _does_not_reach(client.pod))
    heard = [data for data in caught if b"PING" in data.upper()]
    expect(not heard, f"the impostor heard {heard}", "that it hears nothing")
    return observed


def _reaches(pod: Pod, wanted: str) -> str:
    answer = redis_ping(pod)
    expect(wanted in answer, f"{pod.name} got {answer!r} from db", wanted)
    return f"{pod.name} got {wanted} from db"


def _does_not_reach(pod: Pod) -> str:
    answer = redis_ping(pod)
    expect(_ROGUE not in answer and "PONG" not in answer, f"{pod.name} got {answer!r}", "an error")
    return f"{pod.name} got {answer!r}"


@contextmanager
def _hosts(pod: Pod, target: Pod) -> Iterator[None]:
    pod.write_etc("hosts", f"127.0.0.1 localhost\n{target.ipv4} db\n")
    try:
        yield
    finally:
        pod.write_etc("hosts", "127.0.0.1 localhost\n")


@contextmanager
def _taken(stage: Stage, victim: Pod) -> Iterator[None]:
    """The rogue pod has the victim's addresses, its MAC too, and its place on the bridge."""
    own, stolen = _mac(stage.rogue), _mac(victim)
    _plug(stage, victim, attached=False)
    _dress(stage.rogue, victim, stolen, "add")
    try:
        yield
    finally:
        _dress(stage.rogue, victim, own, "del")
        _plug(stage, stage.rogue, attached=False)  # the bridge forgets what it learned at this port
        for pod in (stage.rogue, victim):
            _plug(stage, pod, attached=True)


def _dress(rogue: Pod, victim: Pod, mac: str, command: str) -> None:
    with rogue.inside(), IPRoute() as link:
        index = link.link_lookup(ifname="eth0")[0]
        for address in victim.addresses:
            family, size = (10, 64) if ":" in address else (2, 24)
            link.addr(command, index=index, address=address, prefixlen=size, family=family)
        link.link("set", index=index, address=mac)


def _mac(pod: Pod) -> str:
    with pod.inside(), IPRoute() as link:
        return str(link.link("get", index=link.link_lookup(ifname="eth0")[0])[0].get_attr("IFLA_ADDRESS"))


def _plug(stage: Stage, pod: Pod, *, attached: bool) -> None:
    with stage.world.outside.inside(), IPRoute() as link:
        bridge = link.link_lookup(ifname="br0")[0] if attached else 0
        link.link("set", index=link.link_lookup(ifname=pod.interface)[0], master=bridge)
