"""The application's identity, from the daemon's side to a real client of SPIFFE's: py-spiffe."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import TrustDomain, WorkloadApiClient, X509Source, X509Svid
from spiffe.errors import PySpiffeError
from support.forge import TestMember
from support.identified import identity_of, listening, own_of, view_of
from support.shop import role, topology

from toposeal.daemon import app_identity
from toposeal.daemon.app_identity import AppIdentity
from toposeal.dataplane.view import PodView
from toposeal.errors import PodError, Reason
from toposeal.topology.model import Call, Topology

CALLS = (Call("db", 8080),)
ROLES = (role("db", 2, serves=(8080,)), role("log", 1))
ASKS = topology(role("web", 1, calls=CALLS, workload_api=True), *ROLES)
SILENT = topology(role("web", 1, calls=CALLS), *ROLES)
WEB, DB, DB2, LOG = (TestMember(name) for name in ("web", "db", "db", "log"))
EVERYBODY = (WEB, DB, DB2, LOG)


def view(*members: TestMember, declared: Topology = ASKS) -> PodView:
    return view_of(WEB, members, declared)


class App:
    """The application: a blocking client, each call on a thread of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def ask(self, question: str) -> Any:
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: str) -> Any:
        with WorkloadApiClient(f"unix://{self.path}") as client:
            return getattr(client, question)(timeout=10)

    async def refused(self, question: str = "fetch_x509_svid") -> str:
        with pytest.raises(PySpiffeError) as caught:
            await self.ask(question)
        return str(caught.value)


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield str(Path(directory, "api.sock"))


Test = Callable[[AppIdentity, App], Awaitable[None]]


def run(path: str, test: Test, declared: Topology = ASKS) -> None:
    async def go() -> None:
        async with identity_of(WEB, declared, path) as identity, asyncio.timeout(60):
            await test(identity, App(path))

    asyncio.run(go())


def key_of(svid: X509Svid) -> bytes:
    return svid.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def test_the_application_gets_a_name_a_key_of_its_own_and_the_cas_of_those_it_may_meet(path: str) -> None:
    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY))
        await listening(path)
        context = await app.ask("fetch_x509_context")
        svid = context.default_svid
        assert str(svid.spiffe_id) == f"spiffe://{WEB.domain}/web/app"
        assert svid.leaf.public_key() == svid.private_key.public_key() != WEB.leaf_key.public_key()
        ours = (await app.ask("fetch_x509_bundles")).bundles
        # log is in the manifest, and no edge leads to it or from it.
        for bundles in (ours, context.x509_bundle_set.bundles):
            found = {
                str(bundle.trust_domain): [ca.public_bytes(Encoding.DER) for ca in bundle.x509_authorities]
                for bundle in bundles
            }
            assert found == {str(TrustDomain(m.domain)): [m.ca_der] for m in (WEB, DB, DB2)}

    run(path, test)


def test_two_applications_know_each_other_by_what_they_were_told(path: str, tmp_path: Path) -> None:
    """A handshake of OpenSSL's, both ways, with the CA of the other's trust domain and no other."""

    def context(svid: X509Svid, authority: bytes, side: int) -> ssl.SSLContext:
        made = ssl.SSLContext(side)
        made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=authority)
        file = tmp_path / f"{side}.pem"
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(key + svid.leaf.public_bytes(Encoding.PEM))
        made.load_cert_chain(file)
        return made

    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY))
        await listening(path)
        svid = await app.ask("fetch_x509_svid")
        for authority, goes in ((WEB.ca_der, True), (DB.ca_der, False)):
            server = context(svid, authority, ssl.PROTOCOL_TLS_SERVER)
            client = context(svid, authority, ssl.PROTOCOL_TLS_CLIENT)
            assert handshake(client, server) is goes

    run(path, test)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """In memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return not waiting


def test_a_manifest_changes_whom_it_trusts_and_renewal_its_key_without_being_asked(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0]
    monkeypatch.setattr(app_identity, "clock_ms", lambda: clock[0])

    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY))
        await listening(path)
        source = await asyncio.to_thread(X509Source, socket_path=f"unix://{path}", timeout_in_seconds=10)
        try:
            first = source.get_x509_context()
            identity.entitle(view(WEB, DB2))
            while len(source.get_x509_context().x509_bundle_set.bundles) != 2:
                await asyncio.sleep(0.01)
            second = source.get_x509_context()
            assert key_of(second.default_svid) == key_of(first.default_svid)
            clock[0] = ASKS.timers.leaf_lifetime_ms // 2
            identity.entitle(view(WEB, DB2))  # has it look at the clock
            while key_of(source.get_x509_context().default_svid) == key_of(first.default_svid):
                await asyncio.sleep(0.01)
            third = source.get_x509_context()
            assert third.default_svid.spiffe_id == first.default_svid.spiffe_id
            assert len(third.x509_bundle_set.bundles) == 2
        finally:
            source.close()

    run(path, test)


def test_an_svid_is_renewed_at_half_of_its_life_by_itself(path: str) -> None:
    short = replace(ASKS, timers=replace(ASKS.timers, leaf_lifetime_ms=2_000))

    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY, declared=short))
        await listening(path)
        first = await app.ask("fetch_x509_svid")
        await asyncio.sleep(1.2)
        second = await app.ask("fetch_x509_svid")
        assert first.leaf.serial_number != second.leaf.serial_number
        assert key_of(first) != key_of(second)

    run(path, test)


def test_D7_a_pod_that_is_not_open_tells_nothing_and_comes_back_with_another_key(path: str) -> None:
    async def test(identity: AppIdentity, app: App) -> None:
        await listening(path)  # before the seal
        assert "PERMISSION_DENIED" in await app.refused()
        identity.entitle(view(*EVERYBODY))
        first = await app.ask("fetch_x509_svid")
        identity.entitle(None)
        for question in ("fetch_x509_svid", "fetch_x509_bundles", "fetch_x509_context"):
            assert "PERMISSION_DENIED" in await app.refused(question)
        identity.entitle(view(*EVERYBODY))
        assert key_of(first) != key_of(await app.ask("fetch_x509_svid"))

    run(path, test)


def test_a_role_that_does_not_ask_has_no_socket_until_a_later_topology_asks(path: str) -> None:
    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY, declared=SILENT))
        await asyncio.sleep(0.1)
        assert not os.path.exists(path)
        identity.entitle(view(*EVERYBODY))
        await listening(path)
        assert str((await app.ask("fetch_x509_svid")).spiffe_id).endswith("/web/app")
        identity.entitle(view(*EVERYBODY, declared=SILENT))
        assert "PERMISSION_DENIED" in await app.refused()

    run(path, test, SILENT)


def test_the_other_profile_is_unimplemented_and_says_so(path: str) -> None:
    async def test(identity: AppIdentity, app: App) -> None:
        identity.entitle(view(*EVERYBODY))
        await listening(path)
        assert "UNIMPLEMENTED" in await app.refused("fetch_jwt_bundles")

    run(path, test)


def test_a_place_that_cannot_be_had_ends_the_watch(tmp_path: Path) -> None:
    async def go() -> None:
        identity = AppIdentity(own_of(WEB, ASKS), "/nowhere/api.sock")
        with pytest.raises(PodError) as caught:
            await identity.run()
        assert caught.value.reason is Reason.STATE_DIR
        await identity.close()

    asyncio.run(go())


def test_F4_the_key_is_in_no_representation(path: str) -> None:
    made = app_identity._new_svid(own_of(WEB, ASKS), 60_000)
    assert made.key.hex() not in repr(made) and str(made.key) not in repr(made)
