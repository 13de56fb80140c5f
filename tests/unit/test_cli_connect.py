"""`toposeal connect`, from its arguments to its end by a signal, against real TLS servers."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.front import Front, front
from support.meshes import MESH, Mesh, build_mesh

from toposeal.cli.main import entry

WEB = 3


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return build_mesh(now=int(time.time()))


@pytest.fixture
def served(mesh: Mesh, tmp_path: Path) -> Iterator[Front]:
    (tmp_path / "owner.json").write_bytes(mesh.root.canonical)
    (tmp_path / "root.der").write_bytes(mesh.pki.anchors().intel_sgx_root_ca)
    with front(tmp_path, mesh, mesh.pods[WEB], greet) as made:
        yield made


def greet(tls: ssl.SSLSocket) -> None:
    tls.sendall(tls.recv(100).upper())


def arguments(made: Front, *more: str) -> list[str]:
    trust = ["--owner", str(made.directory / "owner.json"), "--mesh", MESH]
    return ["connect", made.target, "--local", "0", *trust, *more]


@contextlib.contextmanager
def running(made: Front, *more: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The command in a process of its own: what it said until it listened, and where."""
    lab = [sys.executable, "-I", "-m", "toposeal_lab", *arguments(made, *more)]
    command = [*lab, "--anchors", str(made.directory / "root.der")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        try:
            for line in process.stdout:
                said += line
                if found := re.match(r"listening on 127\.0\.0\.1:(\d+) ", line):
                    yield process, int(found[1]), said
                    return
            raise AssertionError(said)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_verifies_listens_forwards_and_ends_by_a_signal(served: Front, number: int) -> None:
    with running(served) as (process, port, said):
        assert said.startswith("VERIFIED shop: topology version 3, epoch 1\n")
        assert "note: version 3 was accepted as any would be" in said
        assert said.endswith(f" for {served.target}; verified again every 60 s\n")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as open_still:
            process.send_signal(number)
            assert process.wait(10) == 0
            with contextlib.suppress(ConnectionError):
                assert open_still.recv(1) == b""
        assert process.stderr is not None and process.stderr.read() == ""


def test_V6_last_visits_are_remembered_for_the_next_run(served: Front, mesh: Mesh) -> None:
    state = ("--state", str(served.directory / "visits.json"))
    with running(served, *state):
        pass
    served.mesh = build_mesh(seed=2, now=mesh.now, pki=mesh.pki)
    served.pod = served.mesh.pods[WEB]
    code, out = refused(served, mesh, *state)
    assert (code, "[lineage_changed]" in out) == (4, True)


def refused(made: Front, mesh: Mesh, *more: str) -> tuple[int, str]:
    """Code and output of a run in this process, which never comes to listening."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = entry(arguments(made, *more), mesh.pki.anchors())
    assert "listening" not in out.getvalue()
    return code, out.getvalue()


def test_V9_the_released_command_trusts_no_simulated_mesh(served: Front) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert entry(arguments(served)) == 2
    assert out.getvalue().startswith("NOT VERIFIED\n")
    assert served.reached == 0


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--min-version", "4"), 4),
        (("--interval", "4"), 1),
        (("--interval", "3601"), 1),
        (("--local", "65536"), 1),
        (("--local", "-1"), 1),
        (("--role", "db"), 1),
        (("--attestation", "nowhere"), 1),
        (("--attestation", "127.0.0.1:1"), 3),
        (("--new-lineage", "00" * 48), 1),
    ],
)
def test_V9_what_verify_refuses_opens_no_port(
    served: Front, mesh: Mesh, more: tuple[str, ...], code: int
) -> None:
    assert refused(served, mesh, *more)[0] == code
    assert served.reached == 0


def test_a_port_that_is_taken_is_a_usage_error(
    served: Front, mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert refused(served, mesh, "--local", str(taken.getsockname()[1]))[0] == 1
    assert "expected a free port [usage]" in capsys.readouterr().err


def test_it_needs_neither_grpc_nor_envoy() -> None:
    script = "import sys, toposeal.cli.connect, toposeal.host.forwarder; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert {"grpc", "envoy_data_plane", "pyroute2", "tenacity"} & set(out.stdout.split()) == set()
