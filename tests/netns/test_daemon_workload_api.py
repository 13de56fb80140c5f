"""A sealed mesh of real daemons, and what an application in it gets from SPIFFE's Workload API by py-spiffe:
as a user of its own, in its pod, through a directory that leads to nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.daemons import SEAL_S, Daemon, World, eventually, ready, world
from support.inside import APP_UID, run_python

from toposeal.dataplane.layout import workload_socket

LEAF_MS = 10_000  # renewed after 5 s
TIMERS = {
    "view_ms": 1_000, "quote_ms": 20_000, "ping_ms": 1_000, "attempt_ms": 20_000,
    "heartbeat_ms": 500, "lease_ms": 8_000, "quorum_ms": 120_000,
}  # fmt: skip

# This environment is its owner's to read: the client becomes another user when it has imported all of it.
BECOME = f"""
import os
os.setgroups([])
os.setresgid({APP_UID}, {APP_UID}, {APP_UID})
os.setresuid({APP_UID}, {APP_UID}, {APP_UID})
"""

ASK = f"""
import json, sys
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import WorkloadApiClient
from spiffe.errors import PySpiffeError
{BECOME}
try:
    with WorkloadApiClient("unix://" + sys.argv[1]) as client:
        context = client.fetch_x509_context(timeout=10)
except PySpiffeError as error:
    print(json.dumps(dict(refused=str(error))))
else:
    svid = context.default_svid
    print(json.dumps(dict(
        id=str(svid.spiffe_id),
        key=svid.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex(),
        bundles=dict((b.trust_domain.name, len(b.x509_authorities)) for b in context.x509_bundle_set.bundles),
    )))
"""

WATCH = f"""
import json, sys, threading, time
from spiffe import X509Source
{BECOME}
source = X509Source(socket_path="unix://" + sys.argv[1], timeout_in_seconds=10)
changed = threading.Event()
source.subscribe_for_updates(changed.set)
serials = [source.get_x509_context().default_svid.leaf.serial_number]
end = time.monotonic() + 20
while len(serials) < 3 and time.monotonic() < end:
    changed.wait(1)
    changed.clear()
    serial = source.get_x509_context().default_svid.leaf.serial_number
    if serial != serials[-1]:
        serials.append(serial)
source.close()
print(json.dumps(serials))
"""

REACH = """
import json, os, socket, sys
def attempt(work):
    try:
        work()
        return "done"
    except OSError as error:
        return type(error).__name__
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
root = sys.argv[1]
print(json.dumps({
    "list": attempt(lambda: os.listdir(root)),
    "write": attempt(lambda: open(root + "/workload/mine", "w").close()),
    "replace": attempt(lambda: os.unlink(root + "/workload/api.sock")),
    **{path: attempt(lambda: connect(root + "/" + path)) for path in sys.argv[2:]},
}))
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    ready()
    asks = {"workload_api": "x509"}
    with world({"web": "web", "db-1": "db"}, leaf_ms=LEAF_MS, web=asks, timers=TIMERS) as made:
        yield made


@pytest.fixture(scope="module")
def sealed(mesh: World) -> World:
    """Before db is there, web's application asks already, and is told nothing."""
    web = mesh.start("web")
    web.wait("phase", SEAL_S, phase="gathering")
    eventually(lambda: os.path.exists(socket_of(web)) or None)
    assert "PERMISSION_DENIED" in ask(web)["refused"]
    mesh.start("db-1")
    for member in mesh.members.values():
        member.wait("gate", SEAL_S, state="open")
    return mesh


def socket_of(member: Daemon) -> str:
    return workload_socket(str(member.directory))


def ask(member: Daemon) -> dict[str, Any]:
    """What the application of `member` is told."""
    return dict(json.loads(run_client(member, ASK)))


def run_client(member: Daemon, code: str) -> str:
    command = [sys.executable, "-I", "-c", code, socket_of(member)]
    return member.pod.run(command, timeout=60).stdout.decode()


def test_the_application_of_a_sealed_pod_gets_its_identity_and_its_partners(sealed: World) -> None:
    web = sealed["web"]
    told = ask(web)
    domain, _, path = told["id"].removeprefix("spiffe://").partition("/")
    assert path == "web/app"
    assert len(told["bundles"]) == 2 and told["bundles"][domain] == 1


def test_F3_its_key_is_in_no_file_and_in_no_log(sealed: World) -> None:
    web = sealed["web"]
    key = bytes.fromhex(ask(web)["key"])
    secret = key[36:68]  # of PKCS #8 with P-256: the number itself
    seen = 0
    for folder, _, names in os.walk(sealed.directory):
        if "tsm" in folder.split("/"):
            continue
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                seen += 1
                with open(path, "rb") as file:
                    data = file.read()
                assert secret not in data and secret.hex().encode() not in data, path
    assert seen > 5


def test_it_is_renewed_while_the_application_listens(sealed: World) -> None:
    web = sealed["web"]
    serials = json.loads(run_client(web, WATCH))
    assert len(set(serials)) == 3


def test_F2_the_way_to_the_socket_leads_to_nothing_else(sealed: World) -> None:
    web = sealed["web"]
    others = ("sockets/xds.sock", "sockets/attestation.sock", "sockets/metrics.sock", "envoy/admin.sock")
    told = json.loads(
        run_python(web.pod, REACH, str(web.directory), "workload/api.sock", *others, uid=APP_UID)
    )
    assert told.pop("workload/api.sock") == "done"
    assert set(told.values()) == {"PermissionError"}
    assert all(os.path.exists(f"{web.directory}/{path}") for path in others)


def test_a_role_that_does_not_ask_has_no_socket(sealed: World) -> None:
    assert os.listdir(os.path.dirname(socket_of(sealed["db-1"]))) == []


def test_D7_a_suspended_pod_tells_nothing_and_then_another_key(sealed: World) -> None:
    """db stands still for longer than a lease: web has no majority any more, until db goes on."""
    web, before = sealed["web"], ask(sealed["web"])
    resumed = len(web.events("resume"))
    os.kill(sealed["db-1"].pid, signal.SIGSTOP)
    try:
        eventually(lambda: ask(web).get("refused"), 30)
        assert "PERMISSION_DENIED" in ask(web)["refused"]
    finally:
        os.kill(sealed["db-1"].pid, signal.SIGCONT)
    eventually(lambda: len(web.events("resume")) > resumed or None, SEAL_S)
    after = eventually(lambda: None if "refused" in (told := ask(web)) else told, SEAL_S)
    assert after["id"] == before["id"] and after["key"] != before["key"]
