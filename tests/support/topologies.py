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


def snp_reference(config: Any = 1, **changes: Any) -> dict[str, Any]:
    """An SNP reference whose HOST_DATA is `config`."""
    return {
        "measurement": "aa" * 48,
        "host_data": f"{config:064x}",
        "guest_svn": 0,
        "family_id": "any",
        "image_id": "any",
        "id_key_digests": "any",
        "author_key_digests": "any",
        **changes,
    }


def snp_policy(**changes: Any) -> dict[str, Any]:
    """Genoa and Turin without floors; nothing relaxed, nothing demanded."""
    levels = dict.fromkeys(("bl", "tee", "snp", "ucode"), 0)
    which = ("reported", "committed", "launch")
    return {
        "endorsements": ["VCEK"],
        "products": {
            "Genoa": {name: {**levels} for name in which},
            "Turin": {name: {"fmc": 0, **levels} for name in which},
        },
        "vmpl": 0,
        "admit": ["SMT"],
        "require": [],
        "require_platform": [],
        "lowered_tcb": "refused",
        "provisional_firmware": "refused",
        "csp_ids": "any",
        "launch_mitigations": "00" * 8,
        "current_mitigations": "00" * 8,
        "crl": "optional",
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


def mixed(**changes: Any) -> dict[str, Any]:
    """As `document`, with web on either kind and db on SNP alone."""
    value = document(**{"snp": snp_policy(), **changes})
    value["roles"]["web"]["snp"] = [snp_reference(1)]
    value["roles"]["db"]["snp"] = [snp_reference(2)]
    del value["roles"]["db"]["tdx"]
    return value


def changed(path: str, value: object, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """`base` with the field at `path` ("roles.web.serves") set to `value`, or taken out by DELETE."""
    result = document() if base is None else base
    *parents, last = path.split(".")
    here: Any = result
    for name in parents:
        here = here[_key(here, name)]
    if value is DELETE:
        del here[_key(here, last)]
    else:
        here[_key(here, last)] = value
    return result


def _key(container: Any, name: str) -> str | int:
    return int(name) if isinstance(container, list) else name


def payload(value: object | None = None) -> bytes:
    """Canonical bytes of `value`, by default of `document()`."""
    return strict_json.canonical(document() if value is None else value)


def refusals(call: Callable[[], object]) -> set[tuple[Reason, str]]:
    """(reason, field) of every mismatch that `call` refuses with."""
    with pytest.raises(TopologyError) as caught:
        call()
    return {(mismatch.reason, mismatch.field) for mismatch in caught.value.mismatches}
