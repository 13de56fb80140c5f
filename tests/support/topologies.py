"""A small valid topology as plain data, and refusals as values to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from toposeal.errors import Reason, TopologyError
from toposeal.topology import strict_json

DELETE = object()


def reference(config: Any = 1, **changes: Any) -> dict[str, Any]:
    """A TDX reference whose config digest is `config`."""
    zeros = "00" * 48
    return {
        "mrtd": "aa" * 48,
        "rtmr0": "any",
        "rtmr1": "b1" * 48,
        "rtmr2": "b2" * 48,
        "rtmr3": "any",
        "mrconfigid": f"{config:096x}",
        "mrowner": zeros,
        "mrownerconfig": zeros,
        "mrseam": "any",
        "td_attributes": "0000001000000000",
        "xfam": "e702060000000000",
        **changes,
    }


def role(config: Any = 1, **changes: Any) -> dict[str, Any]:
    """A role of one replica that serves and calls nothing."""
    return {
        "replicas": {"min": 1, "max": 1},
        "tdx": [reference(config)],
        "platforms": "any",
        "serves": [],
        "calls": [],
        "ingress": [],
        **changes,
    }


def document(**changes: Any) -> dict[str, Any]:
    """web -> db with an ingress, valid; keyword arguments replace top-level fields."""
    return {
        "mesh": "shop",
        "version": 3,
        "issued_at": 1_767_225_600,
        "owner_root": "0f" * 48,
        "attestation_port": 8444,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": ["INTEL-SA-00001"], "min_tcb_evaluation": 17},
        "roles": {
            "web": role(
                1,
                serves=[8080],
                calls=[{"role": "db", "port": 6379}],
                ingress=[{"port": 8443, "target": 8080}],
            ),
            "db": role(2, serves=[6379]),
        },
        **changes,
    }


def changed(path: str, value: object, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """`base` with the field at `path` ("roles.web.serves") set to `value`, or taken out by DELETE."""
    result = document() if base is None else base
    *parents, last = path.split(".")
    here = result
    for name in parents:
        here = here[int(name)] if name.isdigit() and isinstance(here, list) else here[name]
    if value is DELETE:
        del here[last]
    else:
        here[last] = value
    return result


def payload(value: object | None = None) -> bytes:
    """Canonical bytes of `value`, by default of `document()`."""
    return strict_json.canonical(document() if value is None else value)


def refusals(call: Callable[[], object]) -> set[tuple[Reason, str]]:
    """(reason, field) of every mismatch that `call` refuses with."""
    with pytest.raises(TopologyError) as caught:
        call()
    return {(mismatch.reason, mismatch.field) for mismatch in caught.value.mismatches}
