"""K5: a sealed Envoy refuses what x509-limbo says is to be refused, but for the table in docs/x509-suites.md.

One Envoy, as it is rendered. Every case has a member of its own, whose CA it is: the Envoy takes one chain
from each caller, and the same of the server that it calls.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from support.daemons import eventually
from support.datapath import Hand, World, application, put, sealed_mesh, tls_application
from support.envoy import mesh_member
from support.forge import TestMember, new_key
from support.limbo import ISSUER, LEAF, NAMED, Case, build, for_use, same
from support.shop import role, topology
from support.suites import deviations

from toposeal.dataplane.view import MeshMember
from toposeal.evidence import pem
from toposeal.topology.model import Call

PORT = 8080
OUTSIDE = "10.77.0.1"
UNCHANGED = Case("nothing is wrong")
NO_HANDSHAKE = {"webpki::forbidden-p192-spki-leaf"}  # no scheme of TLS 1.3 signs with such a key
UNLOADABLE = {
    "rfc5280::duplicate-extensions",
    "rfc5280::san::malformed",
}  # Python shows none such, openssl does
PLAIN = {UNCHANGED.name, "rfc5280::ee-aia", "rfc5280::no-keyusage", "rfc5280::no-basicconstraints"}
DEPTH = b'"max_verify_depth": 1'


def shown(*cases: Case) -> tuple[Case, ...]:
    out = NO_HANDSHAKE | {"rfc5280::aki::intermediate-missing-aki"}  # a member's CA is its own issuer
    return tuple(case for case in cases if case.name not in out)


CLIENTS = shown(UNCHANGED, *LEAF, *ISSUER, *NAMED, *for_use(Usage.CLIENT_AUTH, Usage.SERVER_AUTH))
# The server's CA is one for all cases: those of an issuer are its clients' alone.
SERVERS = shown(
    UNCHANGED,
    *LEAF,
    *(case for case in NAMED if case.issuer is same),
    *for_use(Usage.SERVER_AUTH, Usage.CLIENT_AUTH),
)
MESH = topology(
    role("web", 99, calls=(Call("db", PORT),)),
    role("db", 1, serves=(PORT,), calls=(Call("store", PORT),)),
    role("store", 1, serves=(PORT,)),
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@dataclass
class Shown:
    """A member, and the chain that it shows in one case."""

    case: Case
    member: TestMember
    chain: str = ""
    ca: str = ""

    def __post_init__(self) -> None:
        member = self.member
        leaf = base64.b64decode("".join(member.chain_pem.splitlines()[1:-1]))
        made = build(self.case, leaf, member.ca_der, member.ca_key, member.ca_key, new_key())
        self.chain, self.ca = (pem.encode(each).decode() for each in made)

    def known(self) -> MeshMember:
        member = self.member
        return MeshMember(member.domain.encode(), member.role, member.domain, self.ca, (OUTSIDE,))


@dataclass
class Sealed:
    world: World
    clients: dict[str, Shown]
    store: TestMember
    refused: int = 0  # connections that came to nothing


@pytest.fixture(scope="module")
def sealed() -> Iterator[Sealed]:
    clients = {case.name: Shown(case, TestMember("web")) for case in CLIENTS}
    store = TestMember("store")
    others = [*(each.known() for each in clients.values()), mesh_member(store, OUTSIDE)]
    with sealed_mesh(MESH, members={"db": TestMember("db")}, elsewhere=others) as world:
        yield Sealed(world, clients, store)


def test_K5_no_client_passes_that_limbo_refuses(
    sealed: Sealed, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with application(sealed.world["db"].pod, PORT, b"served"):
        assert by_openssl(sealed, sealed.clients[UNCHANGED.name], tmp_path)
        passed = {name for name, shown in sealed.clients.items() if dial(sealed, shown, tmp_path)}
    expect_told(sealed, capfd)
    assert passed >= {"rfc5280::nc::permitted-dns-match", "rfc5280::nc::permitted-dn-match", *PLAIN}
    assert passed - valid(CLIENTS) == deviations("Envoy of a client")


def test_K5_no_server_passes_that_limbo_refuses(
    sealed: Sealed, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    passed = {case.name for case in SERVERS if answered(sealed, case, tmp_path)}
    with serving(sealed, UNCHANGED, tmp_path, by_openssl=True):
        assert called(sealed)
    expect_told(sealed, capfd)
    assert passed >= {"webpki::eku::ee-serverauth-with-additional", *PLAIN}
    assert passed - valid(SERVERS) == deviations("Envoy of a server")


def test_K5_an_envoy_with_a_check_left_out_is_noticed(sealed: Sealed, tmp_path: Path) -> None:
    expired, off, on = sealed.clients["rfc5280::validity::expired-leaf"], b"false", b"true"
    lenient = b'"allow_expired_certificate": '
    with application(sealed.world["db"].pod, PORT, b"served"):
        assert not dial(sealed, expired, tmp_path)
        put(sealed.world["db"], DEPTH, DEPTH + b", " + lenient + on)
        eventually(lambda: dial(sealed, expired, tmp_path) or None)
        put(sealed.world["db"], lenient + on, lenient + off)
        eventually(lambda: not dial(sealed, expired, tmp_path) or None)


def valid(cases: Iterable[Case]) -> set[str]:
    return {UNCHANGED.name, *(case.name for case in cases if case.valid)}


def dial(sealed: Sealed, shown: Shown, directory: Path) -> bool:
    """Whether db's application answers whoever shows that chain."""
    if shown.case.name in UNLOADABLE:
        passed = by_openssl(sealed, shown, directory)
    else:
        hand = Hand(sealed.world.outside, shown.chain, shown.member.key_pem, shown.member.domain)
        passed = hand.call(sealed.world["db"].pod.ipv4, PORT) == b"served"
    sealed.refused += not passed
    return passed


def by_openssl(sealed: Sealed, shown: Shown, directory: Path) -> bool:
    address = f"{sealed.world['db'].pod.ipv4}:{PORT}"
    command = [*openssl("s_client", shown, directory), "-ign_eof", "-connect", address]
    with sealed.world.outside.inside():
        ran = subprocess.run(
            [*command, "-servername", shown.member.domain],
            input=b"hi",
            capture_output=True,
            timeout=10,
            check=False,
        )
    return b"served" in ran.stdout


def openssl(mode: str, shown: Shown, directory: Path) -> list[str]:
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_text(shown.chain)
    key.write_text(shown.member.key_pem)
    return ["openssl", mode, "-tls1_3", "-quiet", "-cert", str(chain), "-key", str(key)]


def answered(sealed: Sealed, case: Case, directory: Path) -> bool:
    with serving(sealed, case, directory, case.name in UNLOADABLE):
        return called(sealed)


@contextlib.contextmanager
def serving(sealed: Sealed, case: Case, directory: Path, by_openssl: bool) -> Iterator[None]:
    """A server of the role that db calls, outside every pod."""
    place, shown = sealed.world.outside, Shown(case, sealed.store)
    if not by_openssl:
        with tls_application(place, PORT, shown.chain, shown.member.key_pem, b"rogue"):
            yield
        return
    command = [*openssl("s_server", shown, directory), "-accept", str(PORT), "-www"]
    with place.inside():
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: listens() or None)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def listens() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT)):
        return True
    return False


def called(sealed: Sealed) -> bool:
    """Whether db's application gets an answer from whoever stands there for the role."""
    passed = sealed.world["db"].call("store", PORT, b"GET / HTTP/1.0\r\n\r\n") != b""
    sealed.refused += not passed
    return passed


def expect_told(sealed: Sealed, capfd: pytest.CaptureFixture[str]) -> None:
    """The Envoy has counted every connection that failed: none of them was the other side's refusal."""
    end, text, total = time.monotonic() + 20, "", 0
    while total < sealed.refused and time.monotonic() < end:
        time.sleep(0.05)
        text += capfd.readouterr().out
        events = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        total = max((e["total"] for e in events if e["event"] in ("refused", "refused_more")), default=0)
    assert total == sealed.refused
