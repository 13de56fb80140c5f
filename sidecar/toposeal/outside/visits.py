"""What a verifier remembers of meshes that it has seen: numbers that never fall, and their lineage. No IO.

Without it every visit is the first one: an older topology that is still validly signed, or a second complete
mesh that a host has started, look like the mesh that was there yesterday (V6).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toposeal import strict_json
from toposeal.errors import Mismatch, PolicyError, Reason, UsageError, printable
from toposeal.limits import DIGEST_SIZE, MAX_EPOCH, MAX_VERSION, MAX_VISITS, MAX_VISITS_SIZE
from toposeal.outside.model import VerifiedMesh

_FORM = 1
_DIGEST = re.compile(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}", re.ASCII)


@dataclass(frozen=True)
class Visit:
    """The last visit of one mesh."""

    lineage: bytes  # 48
    topology_version: int
    epoch: int


Visits = Mapping[bytes, Visit]  # by mesh_id, 48 bytes


def after(visits: Visits, mesh_id: bytes, mesh: VerifiedMesh, new_lineage: bytes | None = None) -> Visits:
    """`visits` with this one, if it may follow the last. `new_lineage` (48 bytes) is one that the caller
    expects instead of the remembered one.

    Raises PolicyError: TOPOLOGY_ROLLBACK or EPOCH_ROLLBACK for a lower number, LINEAGE_CHANGED for another
    lineage than expected; UsageError(TOO_LARGE) for one mesh too many.
    """
    last = visits.get(mesh_id)
    if last is not None:
        wrong = _differences(last, mesh, last.lineage if new_lineage is None else new_lineage)
        if wrong:
            raise PolicyError(*wrong)
    elif new_lineage is not None and mesh.lineage != new_lineage:
        raise PolicyError(_lineage(mesh, new_lineage))
    if last is None and len(visits) == MAX_VISITS:
        raise UsageError.of(Reason.TOO_LARGE, "state", f"{MAX_VISITS} meshes", "room for one more")
    return {**visits, mesh_id: Visit(mesh.lineage, mesh.topology_version, mesh.epoch)}


def _differences(last: Visit, mesh: VerifiedMesh, lineage: bytes) -> list[Mismatch]:
    wrong = [] if mesh.lineage == lineage else [_lineage(mesh, lineage)]
    numbers = [(Reason.TOPOLOGY_ROLLBACK, "topology_version")]
    if mesh.lineage == last.lineage:  # another lineage counts its epochs anew
        numbers.append((Reason.EPOCH_ROLLBACK, "epoch"))
    for reason, name in numbers:
        found, seen = getattr(mesh, name), getattr(last, name)
        if found < seen:
            wrong.append(Mismatch(reason, f"mesh.{name}", str(found), f"at least {seen}, seen before"))
    return wrong


def _lineage(mesh: VerifiedMesh, expected: bytes) -> Mismatch:
    found = f"{mesh.lineage.hex()}: another mesh, with other keys"
    return Mismatch(Reason.LINEAGE_CHANGED, "mesh.lineage", found, expected.hex())


def dump(visits: Visits) -> bytes:
    """The canonical JSON that `parse` reads."""
    meshes = {
        mesh_id.hex(): {
            "lineage": visit.lineage.hex(),
            "topology_version": visit.topology_version,
            "epoch": visit.epoch,
        }
        for mesh_id, visit in visits.items()
    }
    return strict_json.canonical({"form": _FORM, "meshes": meshes})


def parse(data: bytes) -> Visits:
    """Read `dump`'s form and nothing else: a file that is damaged must not pass for a first visit.

    Raises UsageError: MALFORMED or TOO_LARGE.
    """
    if len(data) > MAX_VISITS_SIZE:
        raise UsageError.of(Reason.TOO_LARGE, "state", f"{len(data)} bytes", f"at most {MAX_VISITS_SIZE}")
    try:
        value: Any = strict_json.read(data)
        if set(value) != {"form", "meshes"} or value["form"] != _FORM:
            raise _damaged(sorted(value), f"form {_FORM} and meshes")
        visits = {_digest(mesh_id): _visit(each) for mesh_id, each in value["meshes"].items()}
    except (strict_json.JsonError, TypeError, AttributeError) as error:
        raise _damaged(error, "what verify writes") from error
    if len(visits) > MAX_VISITS:
        raise UsageError.of(Reason.TOO_LARGE, "state", f"{len(visits)} meshes", f"at most {MAX_VISITS}")
    return visits


def _visit(value: Any) -> Visit:
    if set(value) != {"lineage", "topology_version", "epoch"}:
        raise _damaged(sorted(value), "lineage, topology_version and epoch")
    version, epoch = value["topology_version"], value["epoch"]
    for number, highest in ((version, MAX_VERSION), (epoch, MAX_EPOCH)):
        if type(number) is not int or not 1 <= number <= highest:
            raise _damaged(number, f"1 to {highest}")
    return Visit(_digest(value["lineage"]), version, epoch)


def _digest(text: object) -> bytes:
    if not isinstance(text, str) or _DIGEST.fullmatch(text) is None:
        raise _damaged(text, f"{DIGEST_SIZE} bytes in lower-case hexadecimal")
    return bytes.fromhex(text)


def _damaged(found: object, expected: str) -> UsageError:
    return UsageError.of(Reason.MALFORMED, "state", printable(found), expected)
