"""docker-compose.yml on a real engine: it seals, serves, is verified from outside, and stays shut without."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.engine import IMAGE, Engine, project

SIDECARS = ("web", "api-1", "api-2", "db")
APPLICATIONS = tuple(f"{sidecar}-app" for sidecar in SIDECARS)
VERIFY = (
    "toposeal-lab verify https://web:8444 --anchors /lab/root.der --owner /lab/owner.json"
    " --mesh shop --min-version 1"
)


@pytest.fixture(scope="module")
def shop(docker_engine: Engine) -> Iterator[Engine]:
    with project(docker_engine) as made:
        made.wait_healthy(*SIDECARS)
        yield made


def test_it_seals_and_an_outsider_verifies_it(shop: Engine) -> None:
    answer = shop.client(f"{VERIFY} --json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    verdict = json.loads(answer.stdout)
    assert verdict["verified"] is True
    assert sorted(member["role"] for member in verdict["members"]) == ["api", "api", "db", "web"]


def test_curl_works_with_the_pins_as_the_verifier_says(shop: Engine) -> None:
    curl = "$(sed -n 's/^note: curl /curl /p' /tmp/verdict | head -n 1) -sS --max-time 10"
    answer = shop.client(
        f'{VERIFY} --ca-out /tmp/pins.pem >/tmp/verdict && cat /tmp/verdict && eval "{curl}"'
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("the shop is open\n")


def test_unmodified_programs_reach_each_other_by_role(shop: Engine) -> None:
    visits = [shop.shell("web-app", "curl -sS --max-time 10 http://127.0.0.1:8080/api/") for _ in range(4)]
    assert all(visit.returncode == 0 for visit in visits), visits
    assert "visit" in visits[-1].stdout
    direct = shop.shell("api-1-app", "redis-cli -h db ping")
    assert direct.stdout == "PONG\n"


@pytest.fixture
def bystander(shop: Engine) -> Iterator[str]:
    """A container without a sidecar on the same network; yields its address. It serves port 8000."""
    server = ("python3", "-Im", "http.server", "--directory", "/opt", "8000")
    container = shop.run("docker", "run", "-d", "--network", "shop_shop", IMAGE, *server).stdout.strip()
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    yield shop.run("docker", "inspect", "-f", address, container).stdout.strip()
    shop.run("docker", "rm", "-f", container)


def test_I1_no_other_way_in(shop: Engine, bystander: str) -> None:
    fetch = "curl -sS --retry 5 --retry-connrefused --max-time 3"
    assert shop.client(f"{fetch} http://{bystander}:8000/").returncode == 0
    for target in ("web:8080", "api-1:8080", "db:6379", "db:15006", "db:15053"):
        answer = shop.client(f"curl -sS --max-time 3 http://{target}/")
        assert answer.returncode != 0, f"{target} answered an outsider: {answer.stdout}"


def test_I1_no_other_way_out(shop: Engine, bystander: str) -> None:
    assert shop.client(f"curl -sS --retry 5 --retry-connrefused http://{bystander}:8000/").returncode == 0
    for target in (f"http://{bystander}:8000/", "http://api:8080/"):  # db calls nobody
        answer = shop.shell("db-app", f"curl -sS --max-time 3 {target}")
        assert answer.returncode != 0, f"db reached {target}: {answer.stdout}"


def test_the_simulator_alone_has_fuse_and_sys_admin(shop: Engine) -> None:
    for name in (*SIDECARS, *APPLICATIONS):
        host = shop.inspect(name)["HostConfig"]
        assert not host["Devices"] and not host["Privileged"]
        assert "SYS_ADMIN" not in (host["CapAdd"] or []) and host["CapDrop"] == ["ALL"]
    assert shop.inspect("platform")["HostConfig"]["Devices"]


def test_I2_a_killed_sidecar_leaves_its_pod_shut(shop: Engine) -> None:
    client = "curl -sS --max-time 3 http://api:8080/"
    assert shop.shell("web-app", client).returncode == 0
    shop.compose("kill", "web")
    assert shop.shell("web-app", client).returncode != 0
    assert shop.client("curl -sSk --max-time 3 https://web:8443/").returncode != 0
