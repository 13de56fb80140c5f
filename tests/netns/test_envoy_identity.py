"""Who gets through a sealed Envoy, and who does not: real handshakes under the real rules.

A refusal is an empty answer, whatever its kind; every test gets the full one first, with the right
credential, so that an empty one means the attack and not the set-up.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.daemons import eventually
from support.datapath import Hand, World, application, put, sealed_mesh, talk, tls_application
from support.forge import (
    DAY,
    NOW,
    SERIAL,
    TestMember,
    below,
    der,
    forge_ca,
    forge_leaf,
    key_pem,
    new_key,
    pem,
)
from support.shop import role, topology

from toposeal.pki.mint import mint_app_svid, mint_ingress_leaf
from toposeal.topology.model import Call

PORT = 8080
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
# web may call db and cache, batch cache alone; db and cache serve the same port.
TRIO = topology(
    role("web", 1, calls=(Call("cache", PORT), Call("db", PORT))),
    role("batch", 1, calls=(Call("cache", PORT),)),
    role("db", 1, serves=(PORT,)),
    role("cache", 1, serves=(PORT,)),
)
Credential = tuple[str, str]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def unconstrained(role_name: str) -> TestMember:
    """A member whose CA lacks the second wall, name constraints: admission would have refused it, and
    the first wall, one CA for one member, has to hold alone.
    """
    member = TestMember(role_name)
    member.ca_der = forge_ca(member.ca_key, names=None, start=NOW - DAY)
    member.ca_pem = pem(member.ca_der)
    return member


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    with sealed_mesh(TRIO) as world:
        yield world


@pytest.fixture(scope="module")
def weak_mesh() -> Iterator[World]:
    with sealed_mesh(TRIO, members={name: unconstrained(name) for name in TRIO.roles}) as world:
        yield world


@pytest.fixture(params=["mesh", "weak_mesh"], ids=["both walls", "first wall alone"])
def world(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def db(world: World) -> Iterator[World]:
    """`db` answers, as web's Envoy and web's own credential can tell."""
    with application(world["db"].pod, PORT, b"from db"):
        assert dial(world, credential(world["web"].member)) == b"from db"
        yield world


def credential(member: TestMember) -> Credential:
    return member.chain_pem, member.key_pem


def dial(world: World, shown: Credential | None, sni: str | None = "web", **options: object) -> bytes:
    """Call db's port from the node with `shown`, naming the role `sni` (or a raw name)."""
    name = world[sni].member.domain if sni in world.pods else sni
    chain, key = shown or (None, None)
    hand = Hand(world.outside, chain, key, name, **options)  # type: ignore[arg-type]
    return hand.call(world["db"].pod.ipv4, PORT)


def test_D3_every_role_answers_at_its_own_name(mesh: World) -> None:
    with application(mesh["db"].pod, PORT, b"db"), application(mesh["cache"].pod, PORT, b"cache"):
        assert mesh["web"].call("db", PORT) == b"db"
        assert mesh["web"].call("cache", PORT) == b"cache"
        assert mesh["batch"].call("cache", PORT) == b"cache"


def test_D3_a_name_never_leads_to_another_role() -> None:
    """The host swaps the addresses of two attested roles, both of which web may call."""

    def swapped(pods: dict[str, object]) -> dict[str, tuple[str, ...]]:
        return {"db": pods["cache"].addresses, "cache": pods["db"].addresses}  # type: ignore[attr-defined]

    with (
        sealed_mesh(TRIO, addresses=swapped) as world,  # type: ignore[arg-type]
        application(world["db"].pod, PORT, b"db") as db_saw,
        application(world["cache"].pod, PORT, b"cache") as cache_saw,
    ):
        assert world["web"].call("db", PORT, b"CANARY") == b""
        assert world["web"].call("cache", PORT, b"CANARY") == b""
        assert db_saw == cache_saw == []
        # The pods themselves are well: who knows the real address and is web gets through.
        assert dial(world, credential(world["web"].member)) == b"db"


def test_N4_the_name_of_a_role_without_members_leads_nowhere() -> None:
    """Its address stays its own: nobody else's answers there, on a port that others serve too."""
    present = {name: TestMember(name) for name in ("web", "db")}
    with sealed_mesh(TRIO, members=present) as world, application(world["db"].pod, PORT, b"db") as db_saw:
        assert world["web"].call("db", PORT) == b"db"
        assert world["web"].call("cache", PORT, b"CANARY") == b""
    assert db_saw == [b"hi"]


def test_D4_an_edge_goes_one_way(mesh: World) -> None:
    with application(mesh["web"].pod, PORT, b"web"), application(mesh["batch"].pod, PORT, b"batch"):
        for caller in ("db", "cache"):
            assert mesh[caller].call("web", PORT) == b""
            for called in ("web", "batch"):
                hand = Hand(mesh.outside, *credential(mesh[caller].member), sni=mesh[caller].member.domain)
                assert hand.call(mesh[called].pod.ipv4, PORT) == b""


def test_D4_a_member_without_the_edge_is_refused_on_both_sides(db: World) -> None:
    assert db["batch"].call("db", PORT) == b""
    batch = credential(db["batch"].member)
    assert dial(db, batch, "batch") == b""
    assert dial(db, batch, "web") == b""


def test_D1_no_certificate_is_refused(db: World) -> None:
    assert dial(db, None) == b""


def test_D1_plaintext_is_refused(db: World) -> None:
    with db.outside.inside():
        assert talk(db["db"].pod.ipv4, PORT, b"GET / HTTP/1.1\r\n\r\n") == b""


def test_D1_an_expired_leaf_is_refused(db: World) -> None:
    web = db["web"].member
    assert dial(db, web.forge(URI(web.uri), start=NOW - DAY, end=NOW + DAY)) == b"from db"
    assert dial(db, web.forge(URI(web.uri), start=NOW - 2 * DAY, end=NOW - DAY)) == b""
    assert dial(db, web.forge(URI(web.uri), start=NOW + DAY, end=NOW + 2 * DAY)) == b""


def test_D1_a_leaf_of_another_lineage_is_refused(db: World) -> None:
    """The same role of a mesh that the host started beside this one: another CA."""
    stranger = TestMember("web")
    assert dial(db, credential(stranger)) == b""
    assert dial(db, credential(stranger), stranger.domain) == b""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1])
def test_D1_older_tls_is_refused(db: World, version: ssl.TLSVersion) -> None:
    assert dial(db, credential(db["web"].member), version=version) == b""


@pytest.mark.parametrize("sni", [None, "m-00000000000000000000000000000000.shop", "db", "batch"])
def test_D1_a_caller_that_names_nobody_or_another_is_refused(db: World, sni: str | None) -> None:
    assert dial(db, credential(db["web"].member), sni) == b""


def test_D2_the_server_side_issues_nothing_to_resume(db: World) -> None:
    chain, key = credential(db["web"].member)
    hand = Hand(db.outside, chain, key, db["web"].member.domain)
    assert hand.call(db["db"].pod.ipv4, PORT) == b"from db"
    assert hand.session is not None
    assert not hand.session.has_ticket
    # The same hand gets a ticket from a server that issues them.
    with tls_application(db.outside, 9000, chain, key, b"rogue"):
        assert hand.call(db.outside.ipv4, 9000) == b"rogue"
    assert hand.session.has_ticket


def test_D2_the_client_side_never_resumes() -> None:
    """A rogue db with db's real credential offers tickets; web's Envoy shakes hands anew each time."""

    def away(pods: object) -> dict[str, tuple[str, ...]]:
        return {"db": ("10.77.0.1",)}

    with sealed_mesh(TRIO, addresses=away) as world:
        web, shown = world["web"], credential(world["db"].member)
        with tls_application(world.outside, PORT, *shown, b"db") as seen:
            for _ in range(3):
                assert web.call("db", PORT) == b"db"
            assert seen == [False] * 3
            # The same Envoy resumes as soon as it is allowed to keep sessions.
            put(web, b'"max_session_keys": 0', b'"max_session_keys": 9')
            wait_until(lambda: web.call("db", PORT) == b"db" and seen[-1] is True)


def subject_of(member: TestMember) -> x509.Name:
    return x509.load_der_x509_certificate(member.ca_der).subject


def test_K1_a_member_cannot_mint_another_members_name(db: World) -> None:
    web, batch = db["web"].member, db["batch"].member
    for sni in ("web", "batch"):
        assert dial(db, batch.forge(URI(web.uri)), sni) == b""
        chain, key = batch.forge(URI(web.uri))
        assert dial(db, (chain + web.ca_pem, key), sni) == b""
        assert dial(db, (chain + batch.ca_pem, key), sni) == b""


def test_K1_a_member_cannot_mint_another_role_for_itself(db: World) -> None:
    web = db["web"].member
    assert dial(db, web.forge(URI(f"spiffe://{web.domain}/db"))) == b""
    assert dial(db, web.forge(URI(f"spiffe://{web.domain}/web/db"))) == b""


def test_K1_a_ca_that_only_looks_like_the_members_is_refused(db: World) -> None:
    """Same name, same key identifier, other key."""
    web = db["web"].member
    identifier = x509.SubjectKeyIdentifier.from_public_key(web.ca_key.public_key())
    fake_key = new_key()
    fake = forge_ca(fake_key, name=subject_of(web), skid=(identifier, False), names=None)
    leaf, key = forge_leaf(fake_key, subject_of(web), [URI(web.uri)])
    assert dial(db, (pem(der(leaf)) + pem(fake), key_pem(key))) == b""


@pytest.mark.parametrize("order", ["own first", "other first"])
@pytest.mark.parametrize("signer", ["web", "batch"])
@pytest.mark.parametrize("sni", ["web", "batch"])
def test_K2_a_leaf_that_names_two_members_is_refused(mesh: World, order: str, signer: str, sni: str) -> None:
    own, other = mesh[signer].member, mesh["batch" if signer == "web" else "web"].member
    names = [URI(own.uri), URI(other.uri)]
    with application(mesh["db"].pod, PORT, b"from db"):
        assert dial(mesh, credential(mesh["web"].member)) == b"from db"
        assert dial(mesh, own.forge(*(names if order == "own first" else names[::-1])), sni) == b""


@pytest.mark.parametrize("order", ["own first", "other first"])
def test_K2_even_without_name_constraints_two_names_are_one_member_at_most(
    weak_mesh: World, order: str
) -> None:
    """What batch's CA says of web counts nowhere; what web's says of batch leaves the caller web."""
    web, batch = weak_mesh["web"].member, weak_mesh["batch"].member
    names = [URI(batch.uri), URI(web.uri)]
    shown = batch.forge(*(names if order == "own first" else names[::-1]))
    with application(weak_mesh["db"].pod, PORT, b"from db"):
        assert dial(weak_mesh, credential(web)) == b"from db"
        assert dial(weak_mesh, shown, "web") == b""
        assert dial(weak_mesh, shown, "batch") == b""
        assert dial(weak_mesh, web.forge(URI(web.uri), URI(batch.uri)), "batch") == b""


ODD_NAMES: dict[str, Callable[[TestMember], list[x509.GeneralName]]] = {
    "wildcard": lambda m: [DNS(f"*.{m.mesh}")],
    "own DNS name": lambda m: [DNS(m.domain)],
    "IP address": lambda m: [x509.IPAddress(ipaddress.ip_address("10.77.0.1"))],
    "e-mail": lambda m: [x509.RFC822Name(f"web@{m.domain}")],
    "other name with NUL": lambda m: [
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05web\x00x")
    ],
    "upper case": lambda m: [URI(f"spiffe://{m.domain.upper()}/web")],
    "upper case scheme": lambda m: [URI(f"SPIFFE://{m.domain}/web")],
    "trailing dot": lambda m: [URI(f"spiffe://{m.domain}./web")],
    "port": lambda m: [URI(f"spiffe://{m.domain}:443/web")],
    "user": lambda m: [URI(f"spiffe://x@{m.domain}/web")],
    "no path": lambda m: [URI(f"spiffe://{m.domain}")],
    "query": lambda m: [URI(f"spiffe://{m.domain}/web?x")],
    "fragment": lambda m: [URI(f"spiffe://{m.domain}/web#x")],
    "trailing slash": lambda m: [URI(f"spiffe://{m.domain}/web/")],
    "another scheme": lambda m: [URI(f"https://{m.domain}/web")],
    "nothing": lambda m: [],
}


@pytest.mark.parametrize("form", ODD_NAMES)
def test_K2_a_leaf_without_the_exact_uri_is_refused(db: World, form: str) -> None:
    web, batch = db["web"].member, db["batch"].member
    for signer in (web, batch):
        assert dial(db, signer.forge(*ODD_NAMES[form](web), subject=web.domain)) == b""


def test_K2_the_ingress_leaf_is_no_mesh_leaf(db: World) -> None:
    web = db["web"].member
    leaf = mint_ingress_leaf(
        web.ca_key, TestMember("web", ca_key=web.ca_key).ca_der, web.leaf_key, SERIAL, NOW, DAY
    )
    assert dial(db, (pem(leaf), web.key_pem)) == b""


def app_svid(member: TestMember, leaf_role: str | None = None) -> Credential:
    """What the member's application is given, as the daemon mints it."""
    leaf = mint_app_svid(
        member.ca_key, member.profile_der, leaf_role or member.role, member.leaf_key, SERIAL, NOW, DAY
    )
    return pem(leaf), member.key_pem


def test_K2_what_an_application_is_given_is_no_mesh_leaf(db: World) -> None:
    """By its path alone: key, issuer, dates and uses are those of the leaf that gets through."""
    web, batch = db["web"].member, db["batch"].member
    assert dial(db, web.forge(URI(web.uri))) == b"from db"
    assert dial(db, app_svid(web)) == b""
    assert dial(db, app_svid(batch), "batch") == b""
    assert dial(db, app_svid(batch)) == b""


def test_D1_a_leaf_for_servers_alone_is_no_clients(db: World) -> None:
    web = db["web"].member
    assert dial(db, web.forge(URI(web.uri), usages=[ExtendedKeyUsageOID.CLIENT_AUTH])) == b"from db"
    assert dial(db, web.forge(URI(web.uri), usages=[ExtendedKeyUsageOID.SERVER_AUTH])) == b""


def test_K4_an_intermediate_is_refused(db: World) -> None:
    web, batch = db["web"].member, db["batch"].member
    assert dial(db, below(web, web.uri)) == b""
    assert dial(db, below(batch, web.uri)) == b""
    assert dial(db, below(batch, batch.uri), "batch") == b""


def test_K4_a_ca_as_leaf_is_refused(db: World) -> None:
    web = db["web"].member
    assert dial(db, web.forge(URI(web.uri), ca=True)) == b""


def test_K4_path_length_alone_would_admit_an_intermediate(mesh: World) -> None:
    """The control: BoringSSL skips the path length of a self-issued anchor. Our limit is what refuses."""
    shown = below(mesh["web"].member, mesh["web"].member.uri)
    with application(mesh["db"].pod, PORT, b"from db"):
        put(mesh["db"], b'"max_verify_depth": 1', b'"max_verify_depth": 2')
        wait_until(lambda: dial(mesh, shown) == b"from db")
        put(mesh["db"], b'"max_verify_depth": 2', b'"max_verify_depth": 1')
        wait_until(lambda: dial(mesh, shown) == b"")


def wait_until(holds: Callable[[], bool]) -> None:
    eventually(lambda: holds() or None)


def rogue_credentials(world: World) -> dict[str, Credential]:
    """Everything that a pod of another role can show where db is expected."""
    db, cache, stranger = world["db"].member, world["cache"].member, TestMember("db")
    return {
        "another role's own leaf": credential(cache),
        "db's name from another member's CA": cache.forge(URI(db.uri)),
        "both names, own first": cache.forge(URI(cache.uri), URI(db.uri)),
        "both names, db's first": cache.forge(URI(db.uri), URI(cache.uri)),
        "db's DNS name": cache.forge(DNS(db.domain), subject=db.domain),
        "an unknown CA": credential(stranger),
        "db's name from an unknown CA": stranger.forge(URI(db.uri)),
        "another role from db's CA": db.forge(URI(f"spiffe://{db.domain}/cache")),
        "a client's leaf of db": db.forge(URI(db.uri), usages=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        "what db's application is given": app_svid(db),
        "an intermediate below another member's CA": below(cache, db.uri),
        "an expired leaf of db": db.forge(URI(db.uri), start=NOW - 2 * DAY, end=NOW - DAY),
    }


@pytest.mark.parametrize("walls", ["both", "first alone"])
def test_D3_a_rogue_at_the_right_address_is_refused(walls: str) -> None:
    members = {n: (TestMember if walls == "both" else unconstrained)(n) for n in TRIO.roles}

    def away(pods: dict[str, object]) -> dict[str, tuple[str, ...]]:
        return {"db": ("10.77.0.1",)}

    with sealed_mesh(TRIO, members=members, addresses=away) as world:  # type: ignore[arg-type]
        web, node = world["web"], world.outside
        with tls_application(node, PORT, *credential(world["db"].member), b"rogue"):
            assert web.call("db", PORT) == b"rogue"  # the way there is open for db's own leaf
        for name, (chain, key) in rogue_credentials(world).items():
            with tls_application(node, PORT, chain, key, b"rogue"):
                assert web.call("db", PORT) == b"", name
        with application(node, PORT, b"rogue") as saw:
            assert web.call("db", PORT, b"CANARY") == b""
        assert all(b"CANARY" not in data for data in saw)
