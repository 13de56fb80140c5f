"""The library: few names, loaded late, and docs/verify.md tells the truth about them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.meshes import MESH, Mesh, build_mesh
from support.serving import serve_documents

import toposeal
from toposeal import EvidenceError, NetworkError, PolicyError, Reason, UsageError, VerifiedMesh, verify
from toposeal.cli.exits import Exit
from toposeal.host import verifier

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "verify.md").read_text()


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return build_mesh(now=int(time.time()))


@pytest.fixture
def lab_roots(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's library trust the simulated vendor."""
    monkeypatch.setattr(verifier, "VENDOR_ANCHORS", mesh.pki.anchors())


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match[1]


def test_every_public_name_is_there_and_typed() -> None:
    assert dir(toposeal) == sorted(toposeal.__all__, key=lambda n: (n.islower(), n)) == toposeal.__all__
    assert all(getattr(toposeal, name).__name__ == name for name in toposeal.__all__)
    tree = ast.parse(Path(toposeal.__file__).read_text())
    typed = [a.asname for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.asname]
    assert sorted(typed) == sorted(toposeal.__all__) == sorted(toposeal._ORIGINS)


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'verify_insecurely'"):
        _ = toposeal.verify_insecurely  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys, toposeal; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = out.stdout.split()
    assert [name for name in loaded if name.startswith("toposeal")] == ["toposeal"]
    assert {"cryptography", "ssl", "google", "dcap_qvl"} & set(loaded) == set()


@pytest.mark.usefixtures("lab_roots")
def test_verify_gives_one_typed_result(mesh: Mesh, tmp_path: Path) -> None:
    owner = tmp_path / "owner.json"
    owner.write_bytes(mesh.root.canonical)
    with serve_documents(tmp_path, mesh.document) as server:
        for root in (owner, str(owner), mesh.root.canonical):
            found = verify(server.url, owner=root, mesh=MESH)
            assert isinstance(found, VerifiedMesh)
            assert found.manifest_digest == mesh.manifest.digest


@pytest.mark.usefixtures("lab_roots")
def test_every_cause_has_its_own_exception(mesh: Mesh, tmp_path: Path) -> None:
    root = mesh.root.canonical
    with serve_documents(tmp_path, mesh.document) as server:
        with pytest.raises(PolicyError) as rollback:
            verify(server.url, owner=root, mesh=MESH, min_version=4)
        with pytest.raises(UsageError):
            verify(server.url, owner=b"{}", mesh=MESH)
        with pytest.raises(UsageError):
            verify(server.url, owner=root, mesh="")
    assert rollback.value.reason is Reason.TOPOLOGY_ROLLBACK
    with pytest.raises(NetworkError):
        verify(server.url, owner=root, mesh=MESH, timeout_s=1)


def test_E17_the_library_trusts_the_vendors_alone(mesh: Mesh, tmp_path: Path) -> None:
    with serve_documents(tmp_path, mesh.document) as server, pytest.raises(EvidenceError) as caught:
        verify(server.url, owner=mesh.root.canonical, mesh=MESH)
    assert caught.value.reason is Reason.QUOTE_SIGNATURE


@contextmanager
def working_in(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.usefixtures("lab_roots")
def test_the_example_of_the_page_runs(mesh: Mesh, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "owner.json").write_bytes(mesh.root.canonical)
    with serve_documents(tmp_path, mesh.document) as server, working_in(tmp_path):
        example = block("python").replace("https://shop.example:8444", server.url)
        exec(compile(example, "docs/verify.md", "exec"), {})
        exec(compile(example.replace("min_version=3", "min_version=4"), "docs/verify.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("proven now: api\napi m-")
    assert out.endswith("genuine, but not acceptable: topology_rollback\n")
    assert (tmp_path / "pins.pem").read_text().count("BEGIN CERTIFICATE") == 4


def test_the_page_prints_the_help_as_it_is() -> None:
    script = "import sys; from toposeal.cli.main import entry; entry(['verify', '--help'])"
    command = [sys.executable, "-I", "-c", script]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "100"})
    assert block("text").split() == out.stdout.split()


def test_the_page_names_every_exit_code_and_only_real_reasons() -> None:
    rows = re.findall(r"^\| (\d) \| (\w+)(.*)$", PAGE, re.MULTILINE)
    assert [int(code) for code, _, _ in rows] == [exit.value for exit in Exit if exit is not Exit.POD]
    named = re.findall(r"`(\w+)`", "".join(rest for _, _, rest in rows))
    assert named
    assert set(named) <= {reason.value for reason in Reason}
