"""What inject writes, and the webhook, at a real API server: make k8s-api-test.

Nothing runs there: no node, no kubelet. What is seen is what it accepts, fills in, and asks the webhook.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml
from support.admission import pods
from support.cluster import API_SERVER, ETCD, Cluster, cluster
from support.injection import APP, NAMED, SETTINGS, identified, injected, injection, topology
from support.webhook import make_files

from toposeal.host.admission_server import AdmissionServer
from toposeal.kubernetes import webhook
from toposeal.kubernetes.admission import answer
from toposeal.kubernetes.inject import inject
from toposeal.kubernetes.webhook import Place, manifests

OVERHEAD = {"cpu": "250m", "memory": "160Mi"}
ROLES = ("web", "api", "db")
KATA = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": SETTINGS.runtime_class},
    "handler": SETTINGS.runtime_class,
    "overhead": {"podFixed": OVERHEAD},
}

pytestmark = pytest.mark.skipif(
    not (API_SERVER.exists() and ETCD.exists()), reason="make k8s-api-test builds an API server and etcd"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        for name in ("shop", "files"):
            found.namespace(name)
        for level in ("baseline", "restricted"):
            found.namespace(level, level)
        found.made(KATA)
        yield found


@contextlib.contextmanager
def answering(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The webhook's port, and its CA."""
    files = make_files(folder)
    server = AdmissionServer(partial(answer, injection=injection()), files.certificate, files.key, print)
    listening: Queue[tuple[int, Callable[[], object]]] = Queue()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        end = partial(loop.call_soon_threadsafe, stop.set)
        await server.serve("127.0.0.1", 0, stop, lambda port: listening.put((port, end)))

    serving = threading.Thread(target=asyncio.run, args=(serve(),))
    serving.start()
    port, end = listening.get(timeout=20)
    try:
        yield port, Path(files.ca).read_bytes()
    finally:
        end()
        serving.join(20)


def configuration(port: int, ca: bytes) -> dict[str, Any]:
    """The generated one, but that the webhook is on this machine: no pod runs it here."""
    place = Place("toposeal", "shop", SETTINGS.image, ca)
    made = list(yaml.safe_load_all(manifests(topology(), place, (), {})))[-1]
    made["webhooks"][0]["clientConfig"] = {
        "url": f"https://127.0.0.1:{port}{webhook.ADMISSION_PATH}",
        "caBundle": base64.b64encode(ca).decode(),
    }
    return dict(made)


@pytest.fixture
def asked(api: Cluster, tmp_path: Path) -> Iterator[None]:
    """While the API server asks the webhook."""
    with answering(tmp_path) as (port, ca):
        made = api.made(configuration(port, ca))
        try:
            _until_asked(api)
            yield
        finally:
            name = made["metadata"]["name"]
            path = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}"
            assert api.ask("DELETE", path)[0] == 200
            _until_asked(api, False)


def _until_asked(api: Cluster, wanted: bool = True) -> None:
    """A configuration takes a moment to be known."""
    for _ in range(100):
        threading.Event().wait(0.1)
        refused = api.create(named(pods()["web"], hostNetwork=True), "shop", dry=True)[0] == 403
        if refused is wanted:
            return
    pytest.fail("the API server does not ask the webhook, or does not stop")


def named(pod: dict[str, Any], **spec: object) -> dict[str, Any]:
    made = copy.deepcopy(pod)
    made["metadata"]["name"] = made["metadata"].pop("generateName") + "1"
    made["spec"].update(spec)
    return made


def of_inject(role: str) -> dict[str, Any]:
    """The pod of `role` in what inject writes, with the label that the webhook goes by."""
    for each in yaml.safe_load_all(injected()):
        if each["metadata"]["name"] == role and "template" in each.get("spec", {}):
            pod = {"apiVersion": "v1", "kind": "Pod", **each["spec"]["template"]}
            pod["metadata"] |= {"name": f"{role}-1"}
            pod["metadata"]["labels"]["toposeal.dev/role"] = role
            return dict(pod)
    raise AssertionError(role)


@pytest.mark.parametrize("identity", [(), ROLES], ids=["plain", "with identities"])
def test_every_object_is_accepted(api: Cluster, identity: tuple[str, ...]) -> None:
    text = inject(APP, injection(topology=identified(*identity)), NAMED)
    found = [each for each in yaml.safe_load_all(text) if each]
    for each in found:
        assert api.made(each, "shop", dry=True)["kind"] == each["kind"]
    assert len(found) == 8


def test_a_field_that_does_not_exist_would_be_refused(api: Cluster) -> None:
    text = injected().replace("failureThreshold", "failureTreshold")
    refused = [api.create(each, "shop", dry=True) for each in yaml.safe_load_all(text) if each]
    assert [said["message"] for status, said in refused if status == 400 and "failureTreshold" in str(said)]


def test_every_pod_is_accepted_and_needs_a_privileged_namespace(api: Cluster) -> None:
    for role in ROLES:
        pod = of_inject(role)
        assert api.made(pod, "files", dry=True)["spec"]["overhead"] == OVERHEAD
        status, said = api.create(pod, "baseline", dry=True)
        assert status == 403 and "hostPath" in said["message"] and "NET_ADMIN" in said["message"]


def test_the_objects_of_the_webhook_are_accepted(api: Cluster, tmp_path: Path) -> None:
    place = Place("default", "shop", SETTINGS.image, Path(make_files(tmp_path).ca).read_bytes())
    arguments = [f"--topology={webhook.FILES}/topology.yaml"]
    found = list(yaml.safe_load_all(manifests(topology(), place, arguments, {"topology.yaml": "a: 1\n"})))
    assert len(found) == 3 + 4
    for each in found:
        api.made(each, dry=True)
    (pod,) = (each["spec"]["template"] for each in found if each["kind"] == "Deployment")
    alone = {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {"name": "webhook"}}
    api.made(alone, "restricted", dry=True)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("role", ROLES)
def test_the_webhook_makes_the_pod_that_inject_makes(api: Cluster, role: str) -> None:
    """After all that the API server itself fills in, the overhead of the runtime class among it."""
    ours = api.made(of_inject(role), "files", dry=True)
    theirs = api.made(named(pods()[role]), "shop")
    for each in (ours, theirs):  # of a service account's volume that the API server adds
        _without_token(each["spec"])
    assert theirs["spec"] == ours["spec"] and theirs["spec"]["overhead"] == OVERHEAD
    assert theirs["metadata"]["annotations"] == ours["metadata"]["annotations"]
    assert theirs["spec"]["initContainers"][0]["name"] == "toposeal-lockdown"


def _without_token(spec: dict[str, Any]) -> None:
    """Its name is made up for each pod."""
    (name,) = (each["name"] for each in spec["volumes"] if each["name"].startswith("kube-api-access-"))
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != name]
    for each in (*spec["initContainers"], *spec["containers"]):
        each["volumeMounts"] = [mount for mount in each.get("volumeMounts", ()) if mount["name"] != name]


@pytest.mark.usefixtures("asked")
def test_what_inject_refuses_is_not_made(api: Cluster) -> None:
    for pod, said in (
        (named(pods()["web"], hostPID=True), "spec.hostPID: found True"),
        (of_inject("web"), "this one is toposeal's"),
    ):
        status, answered = api.create(pod, "shop", dry=True)
        assert status == 403 and said in answered["message"]


@pytest.mark.usefixtures("asked")
def test_other_pods_are_left_alone(api: Cluster) -> None:
    plain = named(pods()["web"])
    plain["metadata"]["name"] = "plain"
    assert "initContainers" not in api.made(plain, "files", dry=True)["spec"]
    del plain["metadata"]["labels"]["toposeal.dev/role"]
    assert "initContainers" not in api.made(plain, "shop", dry=True)["spec"]


def test_while_the_webhook_is_silent_no_pod_with_a_role_is_made(api: Cluster, tmp_path: Path) -> None:
    with answering(tmp_path) as (port, ca):
        made = api.made(configuration(port, ca))
        _until_asked(api)
    status, said = api.create(named(pods()["web"]), "shop", dry=True)
    assert status == 500 and "failed calling webhook" in said["message"]
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    assert api.ask("DELETE", f"{path}/{made['metadata']['name']}")[0] == 200
    _until_asked(api, False)
