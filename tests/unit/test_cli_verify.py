"""`toposeal verify`, from its arguments to its exit code, against a real TLS server."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate
from support.meshes import MESH, Mesh, Pod, build_mesh
from support.serving import serve_documents
from support.tls import tls_server

from toposeal.cli.main import entry
from toposeal.errors import NetworkError, Reason
from toposeal.host import ask_all
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.verify import verify_document
from toposeal.pki.mint import mint_ingress_leaf

WEB = 3  # the member with an ingress port
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return build_mesh(now=int(time.time()))


@pytest.fixture
def owner(mesh: Mesh, tmp_path: Path) -> str:
    path = tmp_path / "owner.json"
    path.write_bytes(mesh.root.canonical)
    return str(path)


@pytest.fixture
def run(mesh: Mesh, owner: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as an honest user would, plus `arguments`; gives (exit code, stdout, stderr)."""

    def run_verify(url: str, *arguments: str) -> tuple[int, str, str]:
        line = ["verify", url, "--owner", owner, "--mesh", MESH, *arguments]
        code = entry(line, mesh.pki.anchors())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_verify


@pytest.fixture
def url(mesh: Mesh, tmp_path: Path) -> Iterator[str]:
    with serve_documents(tmp_path, lambda nonce: mesh.document(nonce, answering=WEB)) as server:
        yield server.url


def test_an_honest_mesh_exits_0_and_says_so_first(run: Run, url: str, mesh: Mesh) -> None:
    code, out, err = run(url, "--min-version", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "VERIFIED shop: topology version 3, epoch 1"
    assert lines[1].startswith("proven now: 1 member (web m-")
    assert lines[1].endswith("committed to this manifest: 4")
    assert not any(line.startswith("note:") for line in lines)
    assert all(pod.signed.identity.ca.domain.split(".")[0] in out for pod in mesh.pods)


def test_json_is_one_object_and_nothing_else(run: Run, url: str, mesh: Mesh) -> None:
    code, out, err = run(url, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    verified = verify_document(mesh.document(), mesh.request())
    assert found == {
        "verified": True,
        "reasons": [],
        "mesh": MESH,
        "owner_root": mesh.root.digest.hex(),
        "topology_version": 3,
        "lineage": mesh.manifest.digest.hex(),
        "epoch": 1,
        "manifest_digest": mesh.manifest.digest.hex(),
        "members": [
            {
                "iid": member.iid.hex(),
                "role": member.role,
                "tee": "tdx",
                "tcb_status": "UpToDate",
                "ca_spki_sha384": member.ca_spki_sha384.hex(),
                "advisories": [],
                "platform": member.platform.hex(),
                "gpus": [],
            }
            for member in verified.members
        ],
        "proven": [found["proven"][0]],
    }
    assert found["proven"] == [mesh.pods[WEB].iid.hex()]


def test_V6_the_version_is_shown_when_no_lowest_one_was_asked_for(run: Run, url: str) -> None:
    _, out, _ = run(url)
    assert "note: version 3 was accepted as any would be, for want of --min-version; " in out
    assert "pass --min-version 3\n" in out


def test_every_run_draws_its_own_nonce(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    with serve_documents(tmp_path, mesh.document) as server:
        assert [run(server.url)[0] for _ in range(3)] == [0, 0, 0]
    assert len(set(server.requests)) == 3


# Pins.


@contextmanager
def ingress(directory: Path, mesh: Mesh, pod: Pod) -> Iterator[int]:
    """An HTTPS server behind `pod`'s ingress leaf; gives its port."""
    key = generate_private_key(SECP256R1())
    ca_der = pod.signed.identity.ca.der
    leaf = mint_ingress_leaf(pod.keys.ca, ca_der, key, 1 << 150, mesh.now, 3600)
    pem = directory / f"leaf-{pod.role}.pem"
    pem.write_bytes(
        load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=_answer_one, args=(listener, context))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _answer_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    try:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
    except OSError:
        pass  # a client that does not trust us hangs up


def curl(pins: Path, domain: str, port: int) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "--max-time", "5", "--cacert", str(pins)]
    command += ["--connect-to", f"::127.0.0.1:{port}", f"https://{domain}:{port}/"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_V2_the_pins_admit_each_member_under_its_own_name_and_nobody_else(
    run: Run, url: str, mesh: Mesh, tmp_path: Path
) -> None:
    pins = tmp_path / "pins.pem"
    assert run(url, "--ca-out", str(pins))[0] == 0
    web, other = mesh.pods[WEB], mesh.pods[0]
    domain = web.signed.identity.ca.domain
    with ingress(tmp_path, mesh, web) as port:
        assert curl(pins, domain, port).stdout == "hello\n"
    with ingress(tmp_path, mesh, other) as port:  # a member, but not the one that was asked for
        assert curl(pins, domain, port).returncode == 60
    stranger = build_mesh(seed=2, pki=mesh.pki, now=mesh.now).pods[WEB]
    with ingress(tmp_path, mesh, stranger) as port:
        assert curl(pins, stranger.signed.identity.ca.domain, port).returncode == 60


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_V2_a_relay_gains_nothing_from_a_genuine_answer(
    run: Run, url: str, mesh: Mesh, tmp_path: Path
) -> None:
    """The document came through an attacker's TLS; what it gives is pins, which the attacker fails."""
    pins = tmp_path / "pins.pem"
    assert run(url, "--ca-out", str(pins))[0] == 0
    domain = mesh.pods[WEB].signed.identity.ca.domain
    with tls_server(tmp_path, lambda tls: tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as attacker:
        assert curl(pins, domain, attacker.port).returncode == 60
        assert attacker.requests == []


def test_the_pins_are_announced_with_a_command_that_uses_them(run: Run, url: str, tmp_path: Path) -> None:
    pins = tmp_path / "pins.pem"
    code, out, _ = run(url, "--ca-out", str(pins), "--min-version", "3")
    assert code == 0
    assert pins.read_text().count("BEGIN CERTIFICATE") == 4
    assert pins.stat().st_mode & 0o777 == 0o644
    assert f"note: curl --cacert {pins} --connect-to ::127.0.0.1:8443 https://m-" in out


def test_no_command_is_shown_where_no_role_is_open_to_the_outside(
    mesh: Mesh, run: Run, tmp_path: Path
) -> None:
    closed = build_mesh({"api": 1}, now=mesh.now, pki=mesh.pki)
    pins = tmp_path / "pins.pem"
    with serve_documents(tmp_path, closed.document) as server:
        code, out, _ = run(server.url, "--ca-out", str(pins))
    assert code == 0
    assert "pinned in" in out
    assert "curl" not in out


@pytest.mark.parametrize("kind", ["file", "dangling link", "directory"])
def test_C3_pins_never_overwrite_anything(run: Run, mesh: Mesh, tmp_path: Path, kind: str) -> None:
    pins = tmp_path / "pins.pem"
    if kind == "file":
        pins.write_text("mine")
    elif kind == "directory":
        pins.mkdir()
    else:
        pins.symlink_to(tmp_path / "nowhere")
    with serve_documents(tmp_path, mesh.document) as server:
        code, out, _ = run(server.url, "--ca-out", str(pins), "--json")
    assert (code, json.loads(out)["reasons"]) == (1, ["usage"])
    assert server.requests == []
    assert kind != "file" or pins.read_text() == "mine"


def test_pins_that_cannot_be_written_are_a_failure(run: Run, url: str, tmp_path: Path) -> None:
    code, out, _ = run(url, "--ca-out", str(tmp_path / "missing" / "pins.pem"), "--json")
    assert (code, json.loads(out)["verified"]) == (1, False)


def test_a_refusal_writes_no_pins(run: Run, url: str, tmp_path: Path) -> None:
    assert run(url, "--ca-out", str(tmp_path / "pins.pem"), "--min-version", "4")[0] == 4
    assert not (tmp_path / "pins.pem").exists()


# The page.


def test_a_page_is_written_beside_the_verdict(run: Run, url: str, tmp_path: Path) -> None:
    shown = tmp_path / "report.html"
    code, out, _ = run(url, "--html", str(shown))
    assert code == 0, out
    assert (code, out.splitlines()[0]) == (0, "VERIFIED shop: topology version 3, epoch 1")
    text = shown.read_text("ascii")
    assert '<h1 class="good">VERIFIED shop</h1>' in text
    assert "from now on pass --min-version 3" in text
    assert shown.stat().st_mode & 0o777 == 0o644


def test_a_refusal_has_its_page_too(run: Run, url: str, tmp_path: Path) -> None:
    shown = tmp_path / "report.html"
    assert run(url, "--html", str(shown), "--min-version", "4")[0] == 4
    assert '<h1 class="bad">NOT VERIFIED</h1>' in shown.read_text("ascii")


def test_the_result_is_written_as_ear_claims(run: Run, url: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    assert run(url, "--ear", str(good))[0] == 0
    found = json.loads(good.read_text("ascii"))
    assert (found["ear_status"], len(found["submods"])) == ("warning", 4)
    assert re.fullmatch(r"toposeal \d.*", found["ear_verifier_id"]["build"])
    assert abs(found["iat"] - time.time()) < 60
    assert run(url, "--ear", str(bad), "--min-version", "4")[0] == 4
    assert json.loads(bad.read_text("ascii"))["submods"][MESH]["ear_status"] == "contraindicated"


@pytest.mark.parametrize("option", ["--html", "--ca-out", "--ear"])
def test_C3_nothing_is_overwritten_and_nobody_asked_where_a_file_is_there(
    run: Run, mesh: Mesh, tmp_path: Path, option: str
) -> None:
    there, other = tmp_path / "there", tmp_path / "other"
    there.write_text("mine")
    with serve_documents(tmp_path, mesh.document) as server:
        code, out, _ = run(server.url, option, str(there), "--json")
        assert (code, json.loads(out)["mismatches"][0]["field"]) == (1, option)
        assert server.requests == []
        cannot = str(tmp_path / "missing" / "file")
        code, out, _ = run(server.url, "--html", cannot, "--json")
        assert (code, json.loads(out)["verified"]) == (1, False)
    assert (there.read_text(), other.exists()) == ("mine", False)


def test_an_argument_that_cannot_be_meant_writes_no_page(run: Run, url: str, tmp_path: Path) -> None:
    assert run(url, "--html", str(tmp_path / "report.html"), "--min-version", "0")[0] == 1
    assert not (tmp_path / "report.html").exists()


# Exit codes.


def refused(out: str) -> list[str]:
    found = json.loads(out)
    assert found["verified"] is False
    assert found["mismatches"]
    reasons: list[str] = found["reasons"]
    return reasons


def test_V1_exit_2_a_replayed_document(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    yesterday = mesh.document()
    with serve_documents(tmp_path, lambda _: yesterday) as server:
        code, out, _ = run(server.url, "--json")
    assert (code, refused(out)) == (2, ["nonce_mismatch"])


def test_V9_exit_2_a_simulated_mesh_seen_by_the_released_command(
    owner: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = entry(["verify", url, "--owner", owner, "--mesh", MESH, "--json"])
    assert (code, refused(capsys.readouterr().out)) == (2, ["quote_signature"])


def test_V9_exit_3_nobody_there(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, out, _ = run(f"https://127.0.0.1:{port}", "--json")
    assert (code, refused(out)) == (3, ["network"])


def test_V9_exit_4_below_the_lowest_version(run: Run, url: str) -> None:
    code, out, _ = run(url, "--min-version", "4", "--json")
    assert (code, refused(out)) == (4, ["topology_rollback"])


def test_exit_4_a_tcb_that_the_owner_does_not_admit(run: Run, url: str, mesh: Mesh, tmp_path: Path) -> None:
    own = tmp_path / "collateral.json"
    own.write_bytes(b"[" + mesh.pki.collateral(status="OutOfDate") + b"]")
    code, out, _ = run(url, "--collateral", str(own), "--json")
    assert (code, refused(out)) == (4, ["tcb_status"])
    own.write_bytes(b"[" + mesh.collateral + b"]")
    assert run(url, "--collateral", str(own))[0] == 0


WEAKER: list[tuple[str, tuple[str, ...]]] = [
    ("SWHardeningNeeded", ("INTEL-SA-00001",)),
    ("ConfigurationNeeded", ()),
    ("ConfigurationAndSWHardeningNeeded", ()),
    ("OutOfDate", ()),
    ("OutOfDateConfigurationNeeded", ()),
    ("UpToDate", ("INTEL-SA-00001",)),
]


@pytest.mark.parametrize(("status", "advisories"), [*WEAKER, ("Revoked", ())])
def test_C4_what_might_be_a_warning_is_a_refusal(
    run: Run, url: str, mesh: Mesh, tmp_path: Path, status: str, advisories: tuple[str, ...]
) -> None:
    own = tmp_path / "collateral.json"
    own.write_bytes(b"[" + mesh.pki.collateral(status=status, advisories=advisories) + b"]")
    code, out, _ = run(url, "--collateral", str(own))
    assert code in (2, 4)
    assert out.startswith("NOT VERIFIED\n")


@pytest.mark.parametrize(("status", "advisories"), WEAKER)
def test_C4_unless_the_owner_has_signed_that_it_will_do(
    run: Run, mesh: Mesh, tmp_path: Path, status: str, advisories: tuple[str, ...]
) -> None:
    """The topology is the only policy: no option of `verify` admits what it does not."""
    admitted = {
        "tcb_status": sorted({"UpToDate", status}),
        "advisories": [*advisories],
        "min_tcb_evaluation": 1,
    }
    admitting = build_mesh(pki=mesh.pki, now=mesh.now, tdx=admitted)
    own = tmp_path / "collateral.json"
    own.write_bytes(b"[" + mesh.pki.collateral(status=status, advisories=advisories) + b"]")
    with serve_documents(tmp_path, lambda nonce: admitting.document(nonce, answering=WEB)) as server:
        code, out, _ = run(server.url, "--collateral", str(own))
    assert code == 0, out
    assert (code, out.splitlines()[0]) == (0, "VERIFIED shop: topology version 3, epoch 1")
    assert out.count(f" tdx  {status}") == len(admitting.pods), out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--min-version", "0"], "usage"),
        (["--connect", "nowhere"], "usage"),
        (["--collateral", "/nonexistent"], "usage"),
        (["--mesh", "Shop"], "usage"),
        (["--owner", "/nonexistent"], "usage"),
        (["--owner", "/dev/null"], "usage"),
        (["--owner", __file__], "malformed"),
    ],
)
def test_V9_exit_1_arguments_that_say_nothing(run: Run, url: str, arguments: list[str], reason: str) -> None:
    code, out, _ = run(url, *arguments, "--json")
    assert (code, refused(out)) == (1, [reason])


@pytest.mark.parametrize(
    "line",
    [
        ["verify"],
        ["verify", "https://shop"],
        ["verify", "https://shop", "--owner", "o"],
        ["verify", "https://shop", "--mesh", "shop"],
        ["verify", "https://shop", "--owner", "o", "--mesh", "shop", "--insecure"],
        ["verify", "https://shop", "--owner", "o", "--mesh", "shop", "--min-version", "new"],
        ["verify", "https://shop", "--own", "o", "--mesh", "shop"],
    ],
)
def test_V9_exit_1_missing_unknown_or_abbreviated_arguments(line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        entry(line)
    assert caught.value.code == 1


def test_V9_exit_1_plain_http(run: Run) -> None:
    code, out, _ = run("http://127.0.0.1:1", "--json")
    assert (code, refused(out)) == (1, ["usage"])


def test_a_refusal_for_people_names_field_value_and_expectation(run: Run, url: str) -> None:
    code, out, _ = run(url, "--min-version", "4")
    assert code == 4
    assert out == "NOT VERIFIED\n  version: found 3, expected at least 4 [topology_rollback]\n"


def test_connect_reaches_a_member_behind_another_name(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    with serve_documents(tmp_path, mesh.document) as server:
        code, _, _ = run("https://shop.example:8444", "--connect", f"127.0.0.1:{server.port}")
    assert code == 0
    assert b"Host: shop.example:8444" in server.requests[0]


def test_it_loads_nothing_that_it_does_not_need() -> None:
    """Half a second from process start to verdict is the budget; these alone would take half of it."""
    loaded = "toposeal.cli.main, toposeal.cli.verify, toposeal.host.verifier, toposeal.outside.verdict"
    script = f"import sys, {loaded}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "grpc", "yaml", "tomllib", "multiprocessing", "concurrent.futures", "hypothesis"}
    assert heavy & set(out.stdout.split()) == set()


def test_a_terminal_shows_what_is_being_done_and_then_the_verdict_alone(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, secondary = os.openpty()
    with open(secondary, "w", encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        code, out, _ = run(url, "--min-version", "3")
    written = b""
    with suppress(OSError):  # EIO is the end of a terminal that nobody has open any more
        while part := os.read(primary, 4096):  # what a terminal gives at once need not be all
            written += part
    os.close(primary)
    lines = [line.rstrip() for line in written.decode("ascii").split("\r")]
    assert f"asking {url.removeprefix('https://')} for its attestation document" in lines
    assert any(line.startswith("checking the document: ") for line in lines)
    assert lines[-1] == lines[-2] == ""  # nothing of it is left
    assert code == 0, out
    assert (code, out.splitlines()[0]) == (0, "VERIFIED shop: topology version 3, epoch 1")


def at_home(mesh: Mesh, answers: dict[str, int]) -> Callable[..., bytes]:
    """A `fetch_document` that reaches members by their addresses: each answers as number `answers` says,
    by default as itself."""
    places = {pod.hello.addresses[0]: place for place, pod in enumerate(mesh.pods)}

    def fetch(endpoint: Endpoint, nonce: bytes, timeout_s: float) -> bytes:
        host, port = endpoint.dial
        assert port == 8444
        place = answers.get(host, places[host])
        if place < 0:
            raise NetworkError.of(Reason.NETWORK, "connection", "refused", "an answer")
        return mesh.document(nonce, answering=place)

    return fetch


def test_all_members_prove_themselves_now(
    run: Run, url: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_all, "fetch_document", at_home(mesh, {}))
    code, out, _ = run(url, "--all")
    assert code == 0
    assert out.splitlines()[1] == "proven now: 4 members; committed to this manifest: 4"


@pytest.mark.parametrize(("answer", "code", "reason"), [(-1, 3, "network"), (0, 2, "manifest_mismatch")])
def test_V3_a_member_that_does_not_answer_for_itself_is_named(
    run: Run, url: str, mesh: Mesh, monkeypatch: pytest.MonkeyPatch, answer: int, code: int, reason: str
) -> None:
    """Silent, or answered for by another member, as its host may arrange."""
    silent = mesh.pods[1]
    monkeypatch.setattr(ask_all, "fetch_document", at_home(mesh, {silent.hello.addresses[0]: answer}))
    found, out, _ = run(url, "--all", "--json")
    assert found == code
    verdict = json.loads(out)
    assert verdict["reasons"] == [reason]
    assert silent.signed.identity.ca.domain in verdict["mismatches"][0]["field"]


def test_V6_another_lineage_than_last_time_is_refused_until_it_is_named(
    run: Run, url: str, mesh: Mesh, tmp_path: Path
) -> None:
    state = str(tmp_path / "visits.json")
    assert run(url, "--state", state)[0] == 0
    assert run(url, "--state", state)[0] == 0
    second = build_mesh(now=mesh.now, seed=2, pki=mesh.pki)
    folder = tmp_path / "second"
    folder.mkdir()
    with serve_documents(folder, lambda nonce: second.document(nonce, answering=WEB)) as server:
        code, out, _ = run(server.url, "--state", state, "--json")
        assert (code, json.loads(out)["reasons"]) == (4, ["lineage_changed"])
        named = second.manifest.digest.hex()
        assert run(server.url, "--state", state, "--new-lineage", named)[0] == 0
    assert run(url, "--state", state)[0] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--new-lineage", "00" * 48),
        ("--state", "/dev/null"),
        ("--state", "/nonexistent/x/visits.json", "--new-lineage", "AB" * 48),
    ],
)
def test_C3_state_and_lineage_are_checked_before_anybody_is_asked(
    run: Run, arguments: tuple[str, ...]
) -> None:
    assert run("https://127.0.0.1:1", *arguments)[0] == 1
