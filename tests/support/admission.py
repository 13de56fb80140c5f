"""AdmissionReviews of the shop's pods as an API server writes them, and its side of the answer."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import yaml

from support.injection import APP

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def pods(text: str = APP) -> dict[str, dict[str, Any]]:
    """A pod of each workload, as its controller makes it: with a role, and the beginning of a name."""
    found = {}
    for document in yaml.safe_load_all(text):
        if "template" in document.get("spec", {}):
            role, template = document["metadata"]["name"], document["spec"]["template"]
            metadata = copy.deepcopy(template["metadata"])
            metadata["labels"]["toposeal.dev/role"] = role
            metadata["generateName"] = f"{role}-"
            spec = copy.deepcopy(template["spec"])
            found[role] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return found


def review(pod: object, **request: object) -> bytes:
    asked = {"uid": UID, "operation": "CREATE", "namespace": "shop", "object": pod, **request}
    return json.dumps(
        {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}
    ).encode()


def response(data: bytes) -> dict[str, Any]:
    said = json.loads(data)
    assert (said["kind"], said["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
    assert said["response"]["uid"] == UID
    return dict(said["response"])


def patched(pod: dict[str, Any], answer: bytes) -> dict[str, Any]:
    """What the API server makes of `pod`, of RFC 6902's operations by `add` alone."""
    said = response(answer)
    assert said["allowed"] is True and said["patchType"] == "JSONPatch", said
    made = copy.deepcopy(pod)
    for operation in json.loads(base64.b64decode(said["patch"])):
        assert operation["op"] == "add"
        *before, last = (
            name.replace("~1", "/").replace("~0", "~") for name in operation["path"].split("/")[1:]
        )
        here: Any = made
        for name in before:
            here = here[int(name)] if isinstance(here, list) else here[name]
        if isinstance(here, list):
            here.insert(int(last), operation["value"])
        else:
            assert last not in here
            here[last] = operation["value"]
    return made
