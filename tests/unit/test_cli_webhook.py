"""`toposeal webhook`: the objects for a cluster, and the server as its Deployment starts it."""

from __future__ import annotations

import base64
import http.client
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.admission import patched, pods, review
from support.injection import ROOT
from support.injection_cli import PLACES, Shop
from support.webhook import Files, make_files

from toposeal.kubernetes import webhook
from toposeal.kubernetes.initdata import ANNOTATION


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    made = Shop(tmp_path, capsys)
    made.take_digests()
    return made


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_files(tmp_path)


def printed(shop: Shop, files: Files, *more: str) -> tuple[int, str, str]:
    arguments = [*shop.declared(), *PLACES, "--namespace=shop", f"--ca={files.ca}", *more]
    return shop.entry("webhook", "manifests", *arguments)


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


def test_the_objects_are_those_of_one_application(shop: Shop, files: Files) -> None:
    code, out, err = printed(shop, files)
    assert code == 0, err
    found = objects(out)
    (hook,) = found["MutatingWebhookConfiguration", "toposeal-webhook-shop"]["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"]) == ("Fail", "None")
    assert hook["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "shop"}
    assert base64.b64decode(hook["clientConfig"]["caBundle"]) == Path(files.ca).read_bytes()
    for role in ("web", "api", "db"):
        service = found["Service", f"toposeal-{role}"]
        assert service["spec"]["selector"] == {"toposeal.dev/role": role}
        assert service["metadata"]["namespace"] == "shop"
    assert found["ConfigMap", webhook.NAME]["data"]["topology.yaml"] == Path(shop.topology).read_text()
    assert {each["metadata"].get("namespace") for each in found.values()} == {"shop", "toposeal-system", None}


def test_nothing_of_a_file_but_its_certificates_is_printed(shop: Shop, files: Files) -> None:
    both = shop.write("both.pem", Path(files.key).read_text() + Path(files.ca).read_text())
    found = objects(printed(shop, files, f"--ca={both}")[1])
    (hook,) = found["MutatingWebhookConfiguration", "toposeal-webhook-shop"]["webhooks"]
    assert base64.b64decode(hook["clientConfig"]["caBundle"]) == Path(files.ca).read_bytes()


def test_the_deployment_runs_what_the_config_map_holds(shop: Shop, files: Files, tmp_path: Path) -> None:
    """Its own command, on its own files, answers a pod; it ends by a signal."""
    policy = shop.write("web.rego", "package agent_policy\n")
    shop.take_digests("--add", f"web/policy.rego={policy}")
    code, out, err = printed(shop, files, f"--add=web/policy.rego={policy}")
    assert code == 0, err
    found = objects(out)
    place = tmp_path / "mounted"
    place.mkdir()
    for name, text in found["ConfigMap", webhook.NAME]["data"].items():
        (place / name).write_text(text)
    (container,) = found["Deployment", webhook.NAME]["spec"]["template"]["spec"]["containers"]
    mounted = {each["mountPath"] for each in container["volumeMounts"]}
    command = container["command"]
    assert set(re.findall(r"/etc/[^ ]+", " ".join(command))) - mounted == {
        f"{webhook.TLS}/tls.crt",
        f"{webhook.TLS}/tls.key",
    }
    command = [each.replace(webhook.FILES, str(place), 1) for each in command if "tls." not in each]
    command = [each for each in command if not each.startswith("--port=")]
    certificate = ["--port=0", "--address=127.0.0.1", f"--cert={files.certificate}", f"--key={files.key}"]
    process = subprocess.Popen(
        [sys.executable, "-Im", *command, *certificate], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(line.rpartition(" ")[2])
        pod = pods()["web"]
        del pod["spec"]["containers"][0]["readinessProbe"]  # of the tests' topology, and not of the example's
        context = ssl.create_default_context(cafile=files.ca)
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
        connection.request("POST", webhook.ADMISSION_PATH, review(pod))
        made = patched(pod, connection.getresponse().read())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    injected = shop.run(*PLACES, "--add", f"web/policy.rego={policy}")[1]
    assert made["metadata"]["annotations"][ANNOTATION] in injected


@pytest.mark.parametrize(
    "more",
    [
        ["--namespace=A"],
        ["--webhook-namespace=A"],
        ["--ca=/nonexistent"],
        ["--image=a b"],
        [f"--ca={__file__}"],
    ],
)
def test_a_wrong_argument_is_a_usage_error(shop: Shop, files: Files, more: list[str]) -> None:
    code, out, err = printed(shop, files, *more)
    assert (code, out) == (1, "") and err.startswith("toposeal: ")


def test_a_digest_that_the_topology_does_not_name_is_refused_at_once(shop: Shop, files: Files) -> None:
    policy = shop.write("web.rego", "package agent_policy\n")
    code, out, err = printed(shop, files, f"--add=policy.rego={policy}")
    assert (code, out) == (1, "") and "config_digest" in err
    serve = [*shop.declared(), *PLACES, f"--cert={files.certificate}", f"--key={files.key}"]
    assert shop.entry("webhook", "serve", *serve, f"--add=policy.rego={policy}")[0] == 1
    assert shop.entry("webhook", "serve", *serve, "--port=65536")[0] == 1
    code, _, err = shop.entry("webhook", "serve", *serve, "--port=0", "--address=")
    assert code == 1 and "--address" in err
