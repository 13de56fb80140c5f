"""docs/kubernetes.md and the end of docs/tutorial.md with real kubectl and Helm at a real API server.

No node, no controllers: what is applied is taken, and nothing of it runs. `make k8s-api-test` builds these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cluster import API_SERVER, ETCD, HELM, KUBECTL, TOOLS, Cluster, cluster
from support.cluster_reader import Reader, assert_all, charted, drafted, hooked, kustomized, steps, tutored

pytestmark = pytest.mark.skipif(
    not all(tool.exists() for tool in (API_SERVER, ETCD, HELM, KUBECTL)),
    reason="make k8s-api-test builds an API server, etcd, kubectl and Helm",
)
Make = Callable[[str], Reader]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def make(api: Cluster, tmp_path: Path) -> Make:
    """A reader whose kubectl works in a namespace of that name."""

    def reader(namespace: str) -> Reader:
        api.namespace(namespace)
        config = tmp_path / "config.json"
        config.write_text(json.dumps(api.config(namespace)))
        return Reader(tmp_path / "shop", TOOLS, config)

    return reader


def taken(reader: Reader) -> set[str]:
    """Of the workloads that the API server holds, those with a sidecar."""
    found = json.loads(reader.run("kubectl get deployments --output json"))["items"]
    return {
        each["metadata"]["name"]
        for each in found
        if "toposeal" in [one["name"] for one in each["spec"]["template"]["spec"].get("initContainers", [])]
    }


def test_the_steps_and_the_webhook(make: Make) -> None:
    reader = make("steps")
    steps(reader)
    assert taken(reader) == {"web", "api", "db"}
    hooked(reader)
    found = json.loads(reader.run("kubectl get mutatingwebhookconfigurations --output json"))["items"]
    assert [each["webhooks"][0]["failurePolicy"] for each in found] == ["Fail"]
    assert_all(reader, "steps", "webhook")


def test_kustomize(make: Make) -> None:
    reader = make("kustomize")
    kustomized(reader)
    assert_all(reader, "kustomize")
    reader.run("kubectl apply -f sealed.yaml")
    assert taken(reader) == {"web", "api", "db"}


def test_helm(make: Make) -> None:
    reader = make("helm")
    charted(reader)
    assert_all(reader, "helm")
    assert taken(reader) == {"web", "api", "db"}


def test_a_draft_of_what_the_cluster_has(make: Make) -> None:
    drafted(make("drafted"))


def test_the_tutorials_end(make: Make) -> None:
    reader = make("tutorial")
    tutored(reader)
    assert len(reader.done) == 7
    assert taken(reader) == {"web", "api", "db"}
