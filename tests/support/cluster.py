"""A real API server over a real etcd, alone on this machine's loopback: no node, no controllers.

`make k8s-api-test` builds both. What controllers would make, a service account for one, is made by hand.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.injection import ROOT
from support.webhook import make_files

TOOLS = ROOT / "build" / "kubernetes-tools"
ETCD, API_SERVER = TOOLS / "etcd", TOOLS / "kube-apiserver"
KUBECTL, HELM = TOOLS / "kubectl", TOOLS / "helm"
_PLACES = {
    "Namespace": "/api/v1/namespaces",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
}
_GROUPS = {"v1": "/api/v1", "apps/v1": "/apis/apps/v1", "batch/v1": "/apis/batch/v1"}
_READY_S = 120.0


@dataclass(frozen=True)
class Cluster:
    """Its port, its CA, and a token of system:masters."""

    port: int
    ca: str
    token: str

    def ask(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if value is None else json.dumps(value), headers)
            got = connection.getresponse()
            data = got.read()
            is_json = "json" in (got.getheader("Content-Type") or "")
            return got.status, json.loads(data) if is_json else data.decode()
        finally:
            connection.close()

    def create(self, value: dict[str, Any], namespace: str = "default", dry: bool = False) -> tuple[int, Any]:
        """An object of a kind of _PLACES or _GROUPS; a field that does not exist is refused."""
        place = _PLACES.get(value["kind"])
        if place is None:
            where = value["metadata"].get("namespace", namespace)
            place = f"{_GROUPS[value['apiVersion']]}/namespaces/{where}/{value['kind'].lower()}s"
        return self.ask("POST", f"{place}?fieldValidation=Strict{'&dryRun=All' if dry else ''}", value)

    def made(self, value: dict[str, Any], namespace: str = "default", dry: bool = False) -> dict[str, Any]:
        """As the API server gives it back."""
        status, said = self.create(value, namespace, dry)
        assert status == 201, said
        return dict(said)

    def config(self, namespace: str) -> dict[str, Any]:
        """For kubectl and Helm, in `namespace` where they are told no other."""
        server = {"server": f"https://localhost:{self.port}", "certificate-authority": self.ca}
        context = {"cluster": "lab", "user": "admin", "namespace": namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "lab", "context": context}],
            "current-context": "lab",
        }

    def namespace(self, name: str, level: str = "privileged") -> None:
        """With what controllers would put into it."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        self.made({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        self.made({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, name)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Both programs, until the block ends; their output is in `folder`."""
    files, token = make_files(folder), secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')
    _account_keys(folder)
    peer, client, port = _free_ports(3)
    here = "http://127.0.0.1"
    etcd = [str(ETCD), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={here}:{client}"]
    etcd += [f"--advertise-client-urls={here}:{client}", f"--listen-peer-urls={here}:{peer}"]
    etcd += [f"--initial-advertise-peer-urls={here}:{peer}", f"--initial-cluster=default={here}:{peer}"]
    server = [str(API_SERVER), f"--etcd-servers={here}:{client}", f"--secure-port={port}"]
    server += ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none", "--authorization-mode=RBAC"]
    server += [f"--tls-cert-file={files.certificate}", f"--tls-private-key-file={files.key}"]
    server += [f"--token-auth-file={folder / 'tokens.csv'}", "--service-cluster-ip-range=10.96.0.0/16"]
    server += ["--service-account-issuer=https://kubernetes.default.svc"]
    server += [f"--service-account-key-file={folder / 'accounts.pub'}"]
    server += [f"--service-account-signing-key-file={folder / 'accounts.key'}"]
    with _running(folder / "etcd.log", etcd), _running(folder / "server.log", server) as process:
        found = Cluster(port, files.ca, token)
        _wait(found, process, folder / "server.log")
        yield found


def _wait(found: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found.ask("GET", "/readyz")[0] == 200:
                return
        time.sleep(0.2)


@contextlib.contextmanager
def _running(log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _account_keys(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.key").write_bytes(private)
    (folder / "accounts.pub").write_bytes(public)


def _free_ports(count: int) -> list[int]:
    """Free a moment ago."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in taken]
