"""Intel's PCS, a PCCS and AMD's KDS as one HTTPS server of simulated vendors, with faults on demand."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.kds import chain_path, list_path, vcek_path
from toposeal.evidence.snp_certs import KeyKind
from toposeal.host.vendor_http import Service
from toposeal_lab.simsnp import LabChip
from toposeal_lab.vendor_tls import issue_server

Answer = tuple[dict[str, str], bytes]
_API = "/certification/v4"


@dataclass
class Fault:
    """What happens to a request instead of its answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of the answer's
    cut: int = 0  # bytes at the end that are announced and not sent
    delay_s: float = 0.0
    times: int = 1_000_000  # requests that it lasts for


@dataclass
class VendorService:
    """What the server knows; all of it may change while it runs."""

    url: str
    ca_file: str
    ca_pem: str
    answers: dict[str, Answer] = field(default_factory=dict)  # by path and query
    faults: dict[str, Fault] = field(default_factory=dict)  # by what a request contains
    requests: list[str] = field(default_factory=list)

    @property
    def service(self) -> Service:
        return Service.parse(self.url, self.ca_file)

    def serve_tdx(self, entry: bytes, pccs: bool = False) -> None:
        """The parts of one collateral entry under Intel's paths; with `pccs` lists are hexadecimal."""
        parts: dict[str, str] = json.loads(entry)
        parsed = parse_collateral(entry)
        identity = _signed(parts, "enclaveIdentity", "qe_identity")
        chain = {"SGX-Enclave-Identity-Issuer-Chain": quote(parts["qe_identity_issuer_chain"])}
        number = f"?tcbEvaluationDataNumber={parsed.qe_identity.evaluation}"
        for path in ("", "?update=early", number):
            self.answers[f"/tdx{_API}/qe/identity{path}"] = (chain, identity)
        tcb_chain = {"TCB-Info-Issuer-Chain": quote(parts["tcb_info_issuer_chain"])}
        for suffix in ("", "&update=early"):
            path = f"/tdx{_API}/tcb?fmspc={parsed.fmspc.hex().upper()}{suffix}"
            self.answers[path] = (tcb_chain, _signed(parts, "tcbInfo", "tcb_info"))
        form = str.encode if pccs else bytes.fromhex
        crl_chain = {"SGX-PCK-CRL-Issuer-Chain": quote(parts["pck_crl_issuer_chain"])}
        self.answers[f"/sgx{_API}/pckcrl?ca=platform&encoding=der"] = (crl_chain, form(parts["pck_crl"]))
        root = f"/sgx{_API}/rootcacrl" if pccs else "/IntelSGXRootCA.der"
        self.answers[root] = ({}, form(parts["root_ca_crl"]))

    def serve_snp(self, chips: Iterable[LabChip], crl: bytes | None = None) -> None:
        """Certificates, chains and lists of `chips` under AMD's paths; of a VLEK its chain and list alone."""
        for chip in chips:
            product = chip.vendor.product
            if chip.kind is KeyKind.VCEK:
                self.answers[vcek_path(product, chip.chip_id, chip.tcb)] = ({}, chip.certificate)
            self.answers[chain_path(product, chip.kind)] = ({}, chip.chain)
            self.answers[list_path(product, chip.kind)] = ({}, crl or chip.vendor.crl())

    def take_fault(self, target: str) -> Fault:
        for part, fault in self.faults.items():
            if part in target and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault()


@contextmanager
def vendor_service(host: str = "127.0.0.1", port: int = 0) -> Iterator[VendorService]:
    """Serve until the block ends, with a certificate of a CA of its own."""
    with TemporaryDirectory() as directory:
        ca, server = issue_server(host)
        key = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        Path(directory, "server.pem").write_bytes(server.pem().encode() + key)
        Path(directory, "ca.pem").write_text(ca.pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(directory, "server.pem"))
        with _Server((host, port), _Handler) as listener:
            listener.socket = context.wrap_socket(
                listener.socket, server_side=True, do_handshake_on_connect=False
            )
            url = f"https://{host}:{listener.server_address[1]}"
            listener.state = VendorService(url, str(Path(directory, "ca.pem")), ca.pem())
            thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield listener.state
            finally:
                listener.shutdown()
                thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: VendorService

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state = self.server.state
        state.requests.append(self.path)
        fault = state.take_fault(self.path)
        if fault.delay_s:
            time.sleep(fault.delay_s)
        known = state.answers.get(self.path)
        status = fault.status if known or fault.status != 200 or fault.body is not None else 404
        headers, body = known or ({}, b"")
        if status != 200:
            headers, body = {}, b"no"
        body = body if fault.body is None else fault.body
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - fault.cut])
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


def _signed(parts: dict[str, str], name: str, member: str) -> bytes:
    return f'{{"{name}":{parts[member]},"signature":"{parts[f"{member}_signature"]}"}}'.encode("ascii")
