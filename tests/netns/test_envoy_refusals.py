"""Every refusal of a sealed Envoy is counted and told in the journal with its reason (K1)."""

from __future__ import annotations

import json
import os
import time

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from support.datapath import Hand, application, sealed_mesh, talk, tls_application
from support.forge import DAY, NOW, TestMember, below
from support.shop import role, topology

from toposeal.topology.model import Call
from toposeal_lab.pods import Pod

PORT = 8080
PAIR = topology(
    role("web", 1, calls=(Call("db", PORT), Call("db", PORT + 1))), role("db", 1, serves=(PORT, PORT + 1))
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def test_K1_every_refusal_is_told_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    web, stranger = TestMember("web"), TestMember("web")
    uri = x509.UniformResourceIdentifier
    with sealed_mesh(PAIR, members={"web": web, "db": TestMember("db")}) as mesh:
        db, said = mesh["db"].pod, Journal(capfd)

        def dial(chain: str | None, key: str | None, sni: str = web.domain) -> bytes:
            return Hand(mesh.outside, chain, key, sni).call(db.ipv4, PORT)

        chain = f"in|{PORT}|{web.domain}"
        expired = web.forge(uri(web.uri), start=NOW - 2 * DAY, end=NOW - DAY)
        other_use = web.forge(uri(web.uri), usages=[ExtendedKeyUsageOID.SERVER_AUTH])
        with application(db, PORT, b"served") as seen:
            assert mesh["web"].call("db", PORT) == b"served"
            assert dial(web.chain_pem, web.key_pem) == b"served"
            refused = [
                (dial(None, None), "no_certificate", chain, web.domain),
                (dial(stranger.chain_pem, stranger.key_pem), "untrusted", chain, web.domain),
                (dial(*web.forge(uri(stranger.uri))), "wrong_name", chain, web.domain),
                (dial(*web.forge(uri(f"spiffe://{web.domain}/db"))), "wrong_name", chain, web.domain),
                (dial(*expired), "expired", chain, web.domain),
                (dial(*other_use), "wrong_use", chain, web.domain),
                (dial(*below(web, web.uri)), "untrusted", chain, web.domain),
                (
                    dial(stranger.chain_pem, stranger.key_pem, stranger.domain),
                    "no_route",
                    "",
                    stranger.domain,
                ),
                (plain(mesh.outside, db.ipv4), "tls", "", ""),
            ]
            assert {answer for answer, *_ in refused} == {b""}
            assert [said.next() for _ in refused] == [expected for _, *expected in refused]
            assert mesh["web"].call("db", 81) == b""
            assert said.next() == ["no_route", "", ""]
            assert said.last["destination"] == "240.10.0.1:81"
        assert seen == [b"hi", b"hi"]
        assert "CANARY" not in said.text


def test_K1_a_server_that_is_not_the_member_is_told_by_its_client(capfd: pytest.CaptureFixture[str]) -> None:
    rogue = TestMember("db")
    members = {"web": TestMember("web"), "db": TestMember("db")}

    def elsewhere(pods: object) -> dict[str, list[str]]:
        return {"db": ["10.77.0.1"]}

    with sealed_mesh(PAIR, members=members, addresses=elsewhere) as mesh:
        said = Journal(capfd)
        with tls_application(mesh.outside, PORT, rogue.chain_pem, rogue.key_pem, b"ROGUE"):
            assert mesh["web"].call("db", PORT) == b""
        assert said.next() == ["untrusted", f"out|db|{PORT}", ""]
        assert said.last["upstream"] == f"10.77.0.1:{PORT}"


def plain(place: Pod, address: str) -> bytes:
    with place.inside():
        return talk(address, PORT, b"GET /CANARY HTTP/1.1\r\n\r\n")


class Journal:
    """What the journal of this process says of refusals, one after the other."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.text = ""
        self.last: dict[str, object] = {}
        self._seen = 0

    def next(self) -> list[object]:
        end = time.monotonic() + 20
        while len(events := self._events()) <= self._seen:
            assert time.monotonic() < end, "it was never told"
            time.sleep(0.02)
        self.last = events[self._seen]
        self._seen += 1
        return [self.last["kind"], self.last["chain"], self.last["sni"]]

    def _events(self) -> list[dict[str, object]]:
        self.text += self._capfd.readouterr().out
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [event for event in found if event["event"] == "refused"]
