"""What the webhook answers: an AdmissionReview of a pod (admission.k8s.io/v1), and the patch by which it gets
what `inject` gives it. No IO.

No security boundary: the API server that asks may as well not ask, or not do what it is told.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from toposeal import strict_json
from toposeal.errors import Reason, ToposealError, UsageError
from toposeal.kubernetes.inject import Injection, inject_pod
from toposeal.kubernetes.object import Object
from toposeal.limits import MAX_ADMISSION_REVIEW, MAX_MANIFEST_DEPTH

_KIND, _VERSION = "AdmissionReview", "admission.k8s.io/v1"
_UID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_FORBIDDEN = 403

Operation = dict[str, object]


def answer(data: bytes, injection: Injection) -> bytes:
    """The review that answers the one in `data`: allowed with a patch, or refused with every reason.

    Raises UsageError for what is no review, and so has nobody to be answered to.
    """
    request = _request(data)
    response: dict[str, object] = {"uid": request["uid"]}
    try:
        patch = _patch(request, injection)
    except ToposealError as error:
        status = {"code": _FORBIDDEN, "reason": "Forbidden", "message": str(error)}
        response |= {"allowed": False, "status": status}
    else:
        packed = base64.b64encode(json.dumps(patch).encode("ascii")).decode("ascii")
        response |= {"allowed": True, "patchType": "JSONPatch", "patch": packed}
    return json.dumps({"apiVersion": _VERSION, "kind": _KIND, "response": response}).encode("ascii")


def json_patch(before: Any, after: Any, path: str = "") -> list[Operation]:
    """What makes `after` of `before` by additions alone (RFC 6902): new names of mappings, and items at the
    beginning of lists, which is where `inject` puts them. All else of both is equal.
    """
    made: list[Operation] = []
    if isinstance(before, dict):
        for name, value in after.items():
            place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in before:
                made += json_patch(before[name], value, place)
            else:
                made.append({"op": "add", "path": place, "value": value})
    elif isinstance(before, list):
        more = len(after) - len(before)
        for index, value in enumerate(before):
            made += json_patch(value, after[more + index], f"{path}/{index}")
        made += [{"op": "add", "path": f"{path}/0", "value": value} for value in reversed(after[:more])]
    return made


def _request(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_ADMISSION_REVIEW:
        found = f"{len(data)} bytes"
        raise UsageError.of(Reason.TOO_LARGE, "review", found, f"at most {MAX_ADMISSION_REVIEW}")
    try:
        review = strict_json.read(data, MAX_MANIFEST_DEPTH)
    except strict_json.JsonError as error:
        raise UsageError.of(error.reason, "review", error.found, error.expected) from error
    said = review if isinstance(review, dict) else {}
    if (said.get("kind"), said.get("apiVersion")) != (_KIND, _VERSION):
        raise UsageError.of(Reason.MALFORMED, "review", "another kind", f"{_KIND} of {_VERSION}")
    request = said.get("request")
    uid = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(uid, str) or _UID.fullmatch(uid) is None:
        raise UsageError.of(Reason.MALFORMED, "review.request.uid", uid, "the name of the request")
    return request


def _patch(request: dict[str, Any], injection: Injection) -> list[Operation]:
    if request.get("operation") != "CREATE":
        expected = "CREATE: of a pod that is there nothing can be changed"
        raise UsageError.of(Reason.MANIFEST_REFUSED, "operation", request.get("operation"), expected)
    pod = request.get("object")
    kind = (pod.get("kind"), pod.get("apiVersion")) if isinstance(pod, dict) else None
    if kind != ("Pod", "v1"):
        raise UsageError.of(Reason.MANIFEST_REFUSED, "object", "another kind", "a Pod of v1")
    before = json.loads(json.dumps(pod))
    inject_pod(Object(pod), injection)
    return json_patch(before, pod)
