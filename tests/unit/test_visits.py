"""Last visits: numbers never fall, the lineage stays, and a damaged file is no first visit (V6)."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.meshes import build_mesh

from toposeal.errors import PolicyError, Reason, ToposealError, UsageError
from toposeal.host.visits_file import check_visits, remember
from toposeal.limits import MAX_VISITS, MAX_VISITS_SIZE
from toposeal.outside import visits
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.verify import verify_document
from toposeal.outside.visits import Visit

OTHER = b"\x02" * 48


@cache
def seen() -> VerifiedMesh:
    mesh = build_mesh()
    return verify_document(mesh.document(), mesh.request())


def reasons(call: Any) -> list[Reason]:
    with pytest.raises(ToposealError) as refused:
        call()
    return [mismatch.reason for mismatch in refused.value.mismatches]


def first() -> visits.Visits:
    return visits.after({}, seen().mesh_id, seen())


def test_the_first_visit_is_remembered_and_the_same_mesh_may_come_again() -> None:
    mesh = seen()
    assert first() == {mesh.mesh_id: Visit(mesh.lineage, mesh.topology_version, mesh.epoch)}
    newer = replace(mesh, topology_version=mesh.topology_version + 1, epoch=mesh.epoch + 1)
    later = visits.after(first(), mesh.mesh_id, newer)
    assert later[mesh.mesh_id] == Visit(mesh.lineage, mesh.topology_version + 1, mesh.epoch + 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topology_version": 2}, Reason.TOPOLOGY_ROLLBACK),
        ({"epoch": 0}, Reason.EPOCH_ROLLBACK),
        ({"lineage": OTHER}, Reason.LINEAGE_CHANGED),
    ],
)
def test_V6_what_was_seen_before_is_not_forgotten(change: dict[str, Any], reason: Reason) -> None:
    mesh = replace(seen(), **change)
    assert reasons(lambda: visits.after(first(), mesh.mesh_id, mesh)) == [reason]


def test_another_lineage_is_accepted_only_by_its_name() -> None:
    mesh = replace(seen(), lineage=OTHER, epoch=1)
    before = {mesh.mesh_id: Visit(seen().lineage, mesh.topology_version, 9)}
    assert visits.after(before, mesh.mesh_id, mesh, OTHER)[mesh.mesh_id].lineage == OTHER
    assert reasons(lambda: visits.after(before, mesh.mesh_id, mesh, b"\x03" * 48)) == [Reason.LINEAGE_CHANGED]
    assert reasons(lambda: visits.after({}, mesh.mesh_id, mesh, b"\x03" * 48)) == [Reason.LINEAGE_CHANGED]
    assert reasons(lambda: visits.after(first(), seen().mesh_id, seen(), OTHER)) == [Reason.LINEAGE_CHANGED]
    older = replace(mesh, topology_version=2)
    assert reasons(lambda: visits.after(before, mesh.mesh_id, older, OTHER)) == [Reason.TOPOLOGY_ROLLBACK]


def test_meshes_do_not_mix() -> None:
    other = {b"\x07" * 48: Visit(OTHER, 99, 99)}
    assert visits.after(other, seen().mesh_id, seen()) == {**other, **first()}


def test_the_file_has_room_for_so_many() -> None:
    full = {bytes([n & 255, n >> 8]) * 24: Visit(OTHER, 1, 1) for n in range(MAX_VISITS)}
    assert reasons(lambda: visits.after(full, seen().mesh_id, seen())) == [Reason.TOO_LARGE]
    assert visits.parse(visits.dump(full)) == full
    more = {**full, b"\x07" * 48: Visit(OTHER, 1, 1)}
    assert reasons(lambda: visits.parse(visits.dump(more))) == [Reason.TOO_LARGE]


def written(**change: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(visits.dump(first()))
    return value | change


def with_visit(**change: Any) -> dict[str, Any]:
    value = written()
    ((mesh_id, visit),) = value["meshes"].items()
    return {**value, "meshes": {mesh_id: visit | change}}


@pytest.mark.parametrize(
    "value",
    [
        [],
        1,
        None,
        {},
        written(form=2),
        written(more=1),
        written(meshes=[]),
        written(meshes={"00": {}}),
        written(meshes={"00" * 48: []}),
        written(meshes={"00" * 48: {}}),
        with_visit(lineage="AB" * 48),
        with_visit(lineage=1),
        with_visit(topology_version=0),
        with_visit(topology_version=True),
        with_visit(epoch="1"),
        with_visit(more=1),
    ],
)
def test_V6_a_damaged_file_is_no_first_visit(value: object) -> None:
    assert reasons(lambda: visits.parse(json.dumps(value).encode())) == [Reason.MALFORMED]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"form": 1, "form": 1, "meshes": {}}'])
def test_V6_what_is_no_json_is_refused(data: bytes) -> None:
    assert reasons(lambda: visits.parse(data)) == [Reason.MALFORMED]
    assert reasons(lambda: visits.parse(bytes(MAX_VISITS_SIZE + 1))) == [Reason.TOO_LARGE]


def test_a_visit_is_written_and_read_by_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "visits.json")
    check_visits(path)
    remember(path, seen(), None)
    assert visits.parse(Path(path).read_bytes()) == first()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    before = Path(path).read_bytes()
    with pytest.raises(PolicyError):
        remember(path, replace(seen(), lineage=OTHER), None)
    assert Path(path).read_bytes() == before
    remember(path, replace(seen(), lineage=OTHER), OTHER)


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense"])
def test_V6_a_file_that_is_something_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "visits.json"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        check_visits(str(path))
    with pytest.raises(UsageError):
        remember(str(path), seen(), None)
    assert path.read_bytes() == content


def test_a_place_that_takes_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        remember(str(tmp_path / "missing" / "visits.json"), seen(), None)
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        check_visits(str(link))


def test_verifiers_that_end_together_lose_no_visit(tmp_path: Path) -> None:
    path = str(tmp_path / "visits.json")
    meshes = [replace(seen(), mesh_id=bytes([n]) * 48) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda mesh: remember(path, mesh, None), meshes))
    assert set(visits.parse(Path(path).read_bytes())) == {mesh.mesh_id for mesh in meshes}
