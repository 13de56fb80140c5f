"""An ingress port as the network sees it: the attestation document under the verifier's ALPN, else the
application behind the member's ingress leaf. Real TLS, a thread for each connection.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from support.meshes import Mesh, Pod
from support.tls import answer
from toposeal.outside.endpoint import ATTESTATION_ALPN
from toposeal.pki.mint import mint_ingress_leaf

Application = Callable[[ssl.SSLSocket], None]
_NONCE = re.compile(rb"\?nonce=([0-9a-f]{64}) ")
_SERIAL = 1 << 150


@dataclass
class Front:
    """What a test may change while it serves: whose documents, which member answers, what it does."""

    mesh: Mesh
    pod: Pod  # whose document is shown
    directory: Path
    application: Application
    port: int = 0
    behind: Pod | None = None  # who has the application, if not `pod`
    silent: bool = False  # no document
    asked: int = 0  # documents
    reached: int = 0  # connections to the application
    _contexts: dict[bytes, ssl.SSLContext] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def handle(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context().wrap_socket(plain, server_side=True) as tls:
            tls.settimeout(20)
            if tls.selected_alpn_protocol() == ATTESTATION_ALPN:
                self._attest(tls)
            else:
                self.reached += 1
                self.application(tls)
                with contextlib.suppress(ValueError):  # it broke off
                    tls.unwrap()  # as Envoy does: what ends is signed

    def _attest(self, tls: ssl.SSLSocket) -> None:
        self.asked += 1
        match = _NONCE.search(tls.recv(4096))
        if not self.silent and match is not None:
            nonce = bytes.fromhex(match[1].decode())
            tls.sendall(answer(self.mesh.document(nonce, answering=self.mesh.pods.index(self.pod))))

    def _context(self) -> ssl.SSLContext:
        pod = self.behind or self.pod
        if pod.iid not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(leaf_file(self.directory, pod, self.mesh.now))
            context.set_alpn_protocols([ATTESTATION_ALPN])
            self._contexts[pod.iid] = context
        return self._contexts[pod.iid]


@contextlib.contextmanager
def front(directory: Path, mesh: Mesh, pod: Pod, application: Application) -> Iterator[Front]:
    """Listens on the loopback while the block runs."""
    made = Front(mesh, pod, directory, application)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        thread = threading.Thread(target=_accept, args=(listener, made), daemon=True)
        thread.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def leaf_file(directory: Path, pod: Pod, now: int) -> Path:
    """The ingress leaf of `pod` and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = mint_ingress_leaf(pod.keys.ca, pod.signed.identity.ca.der, key, _SERIAL, now, 3600)
    path = directory / f"leaf-{pod.iid.hex()[:16]}.pem"
    path.write_bytes(
        load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


def _accept(listener: socket.socket, made: Front) -> None:
    with contextlib.suppress(OSError):
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=made.handle, args=(plain,), daemon=True).start()
