"""What kustomize makes of the components is what inject writes, but for how members are found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.injection import APP, injection, labelled
from support.kustomize import EXAMPLES, MEMBERS

from toposeal.kubernetes.inject import inject
from toposeal.kubernetes.kustomize import initdata_component
from toposeal.limits import PEER_PORT

KUBECTL = shutil.which("kubectl")
MARK = ("toposeal.dev/member", "true")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="there is no kubectl, of which kustomize is a part")

Objects = dict[tuple[str, str], dict[str, Any]]


def kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(KUBECTL), "kustomize", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def built(folder: Path) -> Objects:
    done = kustomize(folder)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def objects(text: str) -> Objects:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


def overlay(folder: Path, app: str) -> Path:
    """The examples with `app` in the place of the shop's, and the overlay that a reader makes of them."""
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    (folder / "shop" / "app.yaml").write_text(app)
    (folder / "shop" / "kustomization.yaml").write_text("resources: [app.yaml]\n")
    place = folder / "kustomize" / "shop"
    (place / "initdata").mkdir()
    component = initdata_component(app, injection(draft=True), {})
    (place / "initdata" / "kustomization.yaml").write_text(component)
    text = (place / "kustomization.yaml").read_text()
    assert text.count("kind: Deployment,") == 1
    (place / "kustomization.yaml").write_text(text.replace("kind: Deployment,", ""))
    return place


def pod(document: dict[str, Any], peers: str, mark: dict[str, str]) -> dict[str, Any]:
    """A pod without how members are found, and in one order what has none."""
    template: dict[str, Any] = document["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert {key: labels.pop(key) for key in mark} == mark
    containers = {each["name"]: each for each in template["spec"]["initContainers"]}
    assert containers["toposeal"]["command"].pop() == f"--peers={peers}"
    template["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    for each in containers.values():
        each.get("volumeMounts", []).sort(key=lambda mount: mount["mountPath"])
    return template


@pytest.mark.parametrize("app", [(EXAMPLES / "shop" / "app.yaml").read_text(), APP], ids=["example", "tests"])
def test_every_pod_is_the_one_that_inject_makes(tmp_path: Path, app: str) -> None:
    app = labelled(app)
    ours, theirs = objects(inject(app, injection(draft=True), {})), built(overlay(tmp_path, app))
    peers = ",".join(f"toposeal-{role}:{PEER_PORT}" for role in sorted(("web", "api", "db")))
    workloads = [key for key, document in theirs.items() if "template" in document.get("spec", {})]
    assert len(workloads) == 3
    for key in workloads:
        found = pod(theirs[key], f"{MEMBERS}:{PEER_PORT}", dict([MARK]))
        assert found == pod(ours[key], peers, {}), key
    added = {key for key in theirs if key not in ours}, {key for key in ours if key not in theirs}
    assert added == (
        {("Service", MEMBERS)},
        {("Service", f"toposeal-{role}") for role in ("web", "api", "db")},
    )
    assert [key for key in ours if key in theirs and key not in workloads and ours[key] != theirs[key]] == []


def test_the_example_as_it_stands_says_every_role(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    found = built(tmp_path / "shop")
    for role in ("web", "api", "db"):
        template = found["Deployment", role]["spec"]["template"]
        assert found["Deployment", role]["metadata"]["labels"]["toposeal.dev/role"] == role
        assert template["metadata"]["labels"] == {"app": role, "toposeal.dev/role": role}
        assert "initContainers" not in template["spec"]


def test_a_workload_without_a_label_gets_nothing(tmp_path: Path) -> None:
    """Why initdata_component refuses it."""
    place = overlay(tmp_path, labelled())
    app = tmp_path / "shop" / "app.yaml"
    app.write_text(app.read_text().replace("labels:\n    toposeal.dev/role: web", "labels:\n    x: web", 1))
    spec = built(place)["Deployment", "web"]["spec"]["template"]["spec"]
    assert "initContainers" not in spec


def test_the_register_goes_to_the_sidecar_or_nowhere(tmp_path: Path) -> None:
    """Components in another order would put it into somebody else's container."""
    path = overlay(tmp_path, labelled()) / "kustomization.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("[../sidecar, ../register, initdata]", "[../register, ../sidecar, initdata]")
    )
    assert path.read_text() != text
    assert kustomize(path.parent).returncode != 0
