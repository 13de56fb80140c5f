"""What an installation contains and pulls: a verifier needs neither grpc nor Envoy; nothing is simulated."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "grpc",
    "envoy_data_plane",
    "betterproto2",
    "pydantic",
    "pyroute2",
    "tenacity",
    "mfusepy",
    "toposeal_lab",
)


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def pinned(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh, isolated interpreter after `statement`."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in out.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import toposeal",
        "from toposeal import verify",
        "import toposeal.cli.main",
        "import toposeal.cli.verify",
        "import toposeal.host.verifier, toposeal.outside.verdict",
        "import toposeal.cli.topology",
        "import toposeal.outside.verify",
    ],
)
def test_the_verifier_imports_neither_grpc_nor_envoy(statement: str) -> None:
    assert loaded_by(statement) & set(HEAVY) == set()


def test_E17_the_daemon_never_loads_the_lab() -> None:
    assert loaded_by("import toposeal.cli.run") & {"toposeal_lab", "mfusepy"} == set()


def test_a_plain_install_pulls_four_packages() -> None:
    names = [re.split(r"[<>=]", entry)[0] for entry in project()["dependencies"]]
    assert names == ["cryptography", "protobuf", "dcap-qvl", "PyYAML"]
    installed = pinned("base.txt") - {"pip", "setuptools"}
    assert installed == {"cryptography", "protobuf", "dcap-qvl", "pyyaml", "cffi", "pycparser"}


def test_the_smaller_locks_are_part_of_the_larger() -> None:
    assert pinned("base.txt") < pinned("sidecar.txt") < pinned("lab.txt") < pinned("dev.txt")
    assert pinned("lab.txt") - pinned("sidecar.txt") == {"mfusepy"}


def test_everything_declared_is_locked() -> None:
    extras = project()["optional-dependencies"]
    declared = [*project()["dependencies"], *extras["sidecar"], *extras["lab"], *extras["dev"]]
    names = {re.split(r"[<>=]", entry)[0].lower() for entry in declared}
    assert names <= pinned("dev.txt"), "run `make lock`"


def test_the_stubs_are_as_old_as_the_declared_floor() -> None:
    declared = [*project()["dependencies"], *project()["optional-dependencies"]["sidecar"]]
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(declared), re.MULTILINE))
    stub = (ROOT / "sidecar/toposeal/_wire/peer_pb2_grpc.py").read_text()
    assert f"GRPC_GENERATED_VERSION = '{floors['grpcio']}.0'" in stub
    gencode = (ROOT / "sidecar/toposeal/_wire/peer_pb2.py").read_text()
    assert f"# Protobuf Python Version: {floors['protobuf']}\n" in gencode


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout holds, without the leftovers of earlier builds."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "sidecar",
            "iptables",
            "pyproject.toml",
            "LICENSE",
            "README.md",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    archive = copy / "source.tar"
    subprocess.run(
        ["tar", "-c", "--null", "--files-from=-", "-f", archive], cwd=ROOT, input=listed.stdout, check=True
    )
    subprocess.run(["tar", "-xf", archive], cwd=copy, check=True)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-Im", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", out, "."], cwd=source, check=True)
    return set(zipfile.ZipFile(next(out.glob("*.whl"))).namelist())


def test_the_wheel_holds_every_module_and_its_types(source: Path, wheel: set[str]) -> None:
    modules = {str(p.relative_to(source / "sidecar")) for p in (source / "sidecar").rglob("*.py")}
    assert modules <= wheel
    assert {"toposeal/py.typed", "toposeal/_wire/peer_pb2.pyi"} <= wheel


def test_the_wheel_has_nothing_at_its_top_but_the_packages(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"toposeal", "toposeal_lab"}
