"""Manifests before the one that is trusted: remembered, told, and refused unless each names the next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.actors import Bench
from support.certificates import link
from support.meshes import MESH, Mesh, build_mesh
from support.serving import serve_documents

from toposeal._wire import attestation_pb2 as wire
from toposeal.cli.main import entry
from toposeal.daemon import answers as answers_module
from toposeal.daemon.answers import Answers
from toposeal.encoding import encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.host.attestation_server import AttestationServer, Parts, TellHistory
from toposeal.membership import history as history_module
from toposeal.membership.certificate import Certificate
from toposeal.membership.fetching import hold
from toposeal.membership.history import history
from toposeal.membership.manifest import Manifest
from toposeal.outside.endpoint import HISTORY_PATH
from toposeal.outside.history import HISTORY_TYPE, build_history, read_history, told

ROLES = {"db": (1, 3), "web": (1, 1)}


@cache
def made() -> tuple[Bench, list[Certificate]]:
    """A genesis of three and forty manifests after it, of which every other one lists another member."""
    bench = Bench(ROLES)
    actors = [bench.actor(role) for role in ("web", "db", "db", "db")]
    found = [link(None, 1, actors[:3], actors[:3])]
    for epoch in range(3, 43):
        members = actors[:3] if epoch % 2 else [*actors[:2], actors[3]]
        found.append(link(found[-1], epoch, members, members))
    return bench, found


def made_line() -> tuple[Manifest, ...]:
    """Newest first."""
    return tuple(certificate.manifest for certificate in reversed(made()[1]))


@pytest.fixture
def bench() -> Bench:
    return made()[0]


@pytest.fixture
def certificates() -> list[Certificate]:
    return made()[1]


@pytest.fixture
def line() -> tuple[Manifest, ...]:
    return made_line()


def serving(bench: Bench, certificates: Sequence[Certificate]) -> Any:
    """A member that held all of them, one after the other, and serves the last."""
    member = bench.member
    for certificate in certificates:
        member = hold(replace(member, sealed=certificate.digest, serving=certificate.sealed), certificate)
    return member


def test_a_member_remembers_manifests_whose_certificates_it_has_let_go(
    bench: Bench, certificates: list[Certificate], line: tuple[Manifest, ...]
) -> None:
    member = serving(bench, certificates)
    assert len(member.chain) < len(certificates) and member.past
    assert history(member) == line
    assert history(replace(member, serving=certificates[5].sealed)) == line[-6:]
    assert history(bench.member) == ()


def test_who_has_sealed_beyond_a_gap_still_knows_what_came_before_what_it_serves(
    bench: Bench, certificates: list[Certificate], line: tuple[Manifest, ...]
) -> None:
    """It missed rounds, adopted what the others had proven meanwhile, and has sealed after that."""
    member = serving(bench, certificates[:12])
    assert history(member) == line[-12:]
    member = hold(member, certificates[20])
    member = hold(replace(member, sealed=certificates[21].digest), certificates[21])
    for later in certificates[22:40]:
        member = hold(replace(member, sealed=later.digest), later)
    assert certificates[10].digest not in member.chain and history(member) == line[-12:]


def test_what_is_beside_the_own_line_is_forgotten(bench: Bench, certificates: list[Certificate]) -> None:
    """However many somebody shows: only what the own manifests descend from stays."""
    member = serving(bench, certificates[:3])
    others = [bench.actor("web"), bench.actor("db")]
    strange = [link(None, 1, others, others)]
    for epoch in range(2, 60):
        strange.append(link(strange[-1], epoch, others, others))
        member = hold(member, strange[-1])
    assert [m.epoch for m in history(member)] == [4, 3, 1]
    member = hold(member, certificates[3])
    assert {m.digest for m in member.past.values()}.isdisjoint({s.digest for s in strange})


@pytest.mark.parametrize(("spare", "count"), [(1, 20), (0, 20), (-1, 19)])
def test_the_oldest_are_forgotten_first(
    bench: Bench,
    certificates: list[Certificate],
    line: tuple[Manifest, ...],
    monkeypatch: pytest.MonkeyPatch,
    spare: int,
    count: int,
) -> None:
    monkeypatch.setattr(history_module, "MAX_HISTORY_SIZE", sum(len(m.body) for m in line[:20]) + spare)
    member = serving(bench, certificates)
    assert history(member) == line[:count]
    assert len(member.past) + len(member.chain) <= 22


def test_what_is_built_is_read_and_begins_where_the_verifier_trusts(line: tuple[Manifest, ...]) -> None:
    assert read_history(build_history(line), line[0].digest) == line
    assert read_history(build_history(line), line[7].digest) == line[7:]
    assert read_history(build_history(line[:4]), line[1].digest) == line[1:4]


@given(st.integers(0, 39), st.sampled_from(["flip", "drop", "repeat", "swap"]), st.integers(0, 1 << 12))
def test_a_history_with_any_other_byte_or_order_is_refused(number: int, change: str, bit: int) -> None:
    """After the first everything hangs on a digest."""
    line = made_line()
    bodies = [manifest.body for manifest in line]
    match change:
        case "flip":
            at = bit % (8 * len(bodies[number]))
            changed = bytearray(bodies[number])
            changed[at // 8] ^= 1 << at % 8
            bodies[number] = bytes(changed)
        case "drop":
            del bodies[number]
        case "repeat":
            bodies.insert(number, bodies[number])
        case "swap":
            bodies[number], bodies[number + 1] = bodies[number + 1], bodies[number]
    with pytest.raises(RemoteProtocolError):
        read_history(encode(wire.History(manifests=bodies)), line[0].digest)


def test_another_lineage_mesh_or_a_rising_epoch_is_refused(bench: Bench, line: tuple[Manifest, ...]) -> None:
    genesis = line[-1]
    for wrong, field in (
        (replace(genesis, mesh_id=bytes(48)), "lineage"),
        (replace(genesis, previous=bytes([1]) * 48, lineage=bytes([2]) * 48), "lineage"),
        (replace(genesis, epoch=line[-2].epoch), "epoch"),
        (replace(genesis, digest=bytes(48)), "digest"),
    ):
        with pytest.raises(RemoteProtocolError, match=field):
            history_of([line[-2], wrong])


def history_of(manifests: Sequence[Manifest]) -> None:
    """As `read_history`, of manifests whose digests are not those of their bytes."""
    from toposeal.outside.history import _check_link

    _check_link("history.manifests[1]", manifests[0], manifests[1])


def test_an_empty_or_another_message_is_refused(line: tuple[Manifest, ...]) -> None:
    for data in (b"", b"\xff", build_history(line[1:]), build_history(line)[:-1]):
        with pytest.raises(RemoteProtocolError):
            read_history(data, line[0].digest)


def test_it_is_told_who_joined_and_who_left(line: tuple[Manifest, ...]) -> None:
    found = told(line)
    assert found.whole and found.lineage == line[-1].digest.hex()
    assert [len(step.joined) for step in found.steps] == [1] * 39 + [0, 3]
    assert [len(step.left) for step in found.steps] == [1] * 39 + [0, 0]
    assert found.steps[0].joined == found.steps[1].left != found.steps[1].joined
    text = found.as_text().split("\n")
    assert text[1].startswith("  epoch 42  ") and text[-1] == "  the genesis"
    part = told(line[:2])
    assert not part.whole and part.lineage == found.lineage
    assert part.as_text().endswith("not known to who answered")
    assert told(line[-1:]).lineage == found.lineage


def test_the_daemon_answers_with_what_it_serves(
    bench: Bench, certificates: list[Certificate], line: tuple[Manifest, ...]
) -> None:
    def answers(member: object) -> Answers:
        return Answers(cast(Any, SimpleNamespace(member=member)), bench.own, cast(Any, None))

    assert read_history(answers(serving(bench, certificates)).history()(), line[0].digest) == line
    for closed in (None, bench.member):
        with pytest.raises(RemoteProtocolError) as refused:
            answers(closed).history()
        assert refused.value.reason is Reason.NOT_ACTIVE


def exchange(directory: Path, history: TellHistory, method: str = "GET") -> bytes:
    """What the daemon's real server answers."""

    async def never(nonce: bytes) -> Parts:
        raise AssertionError("no document was asked for")

    def nothing(*_: object) -> Any:
        raise AssertionError("nothing of that kind was asked for")

    async def go() -> bytes:
        server = AttestationServer(never, nothing, nothing, history)
        path = str(directory / "history.sock")
        await server.start(path, 0)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(f"{method} {HISTORY_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answered = await reader.read()
        writer.close()
        server.close()
        return answered

    return asyncio.run(go())


def test_the_answer_is_made_only_when_there_is_room_for_it(
    bench: Bench, certificates: list[Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that, a stranger's connection holds none of its megabytes."""
    made: list[int] = []

    def build_history(known: Sequence[Manifest]) -> bytes:
        made.append(len(known))
        return bytes(3)

    monkeypatch.setattr(answers_module, "build_history", build_history)
    node = SimpleNamespace(member=serving(bench, certificates))
    answers = Answers(cast(Any, node), bench.own, cast(Any, None))
    server = AttestationServer(cast(Any, None), cast(Any, None), cast(Any, None), answers.history)
    build = asyncio.run(
        server._answer_one(cast(Any, None), f"GET {HISTORY_PATH} HTTP/1.1\r\n".encode(), body)
    )
    assert made == []
    response = build()
    assert isinstance(response, bytes) and response.endswith(bytes(3)) and made == [len(certificates)]


async def body(size: int) -> bytes:
    raise AssertionError("a GET has no body")


def not_active() -> Callable[[], bytes]:
    raise RemoteProtocolError.of(Reason.NOT_ACTIVE, "phase", "boot", "active")


def test_the_server_gives_it_and_says_when_there_is_none(tmp_path: Path) -> None:
    given = exchange(tmp_path, lambda: lambda: b"manifests")
    assert given.startswith(b"HTTP/1.1 200 ") and given.endswith(b"\r\n\r\nmanifests")
    assert HISTORY_TYPE.encode() in given
    assert exchange(tmp_path, not_active).startswith(b"HTTP/1.1 503 ")
    assert exchange(tmp_path, lambda: bytes, "POST").startswith(b"HTTP/1.1 40")


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    import time

    return build_mesh(now=int(time.time()))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        code = entry(["history", *arguments], mesh.pki.anchors())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_what_a_verified_member_says_is_checked_kept_and_checked_again_offline(
    run: Run, mesh: Mesh, tmp_path: Path
) -> None:
    owner, kept = tmp_path / "owner.json", str(tmp_path / "history")
    owner.write_bytes(mesh.root.canonical)
    served = exchange(tmp_path, lambda: lambda: build_history([mesh.manifest]))
    trust = ("--owner", str(owner), "--mesh", MESH)
    with serve_documents(tmp_path, mesh.document, {HISTORY_PATH: served}) as server:
        code, out, err = run(server.url, *trust, "--out", kept)
        assert (code, err) == (0, "")
        assert "the genesis" in out and "--min-version 3" in out
        code, out, err = run(server.url, *trust, "--json", "--min-version", "3")
    online = json.loads(out)
    assert online["verified"] and [step["digest"] for step in online["steps"]] == [mesh.manifest.digest.hex()]
    code, out, err = run("--file", kept, "--digest", mesh.manifest.digest.hex(), "--json")
    assert (code, json.loads(out)) == (0, online)
    code, out, err = run("--file", kept, "--digest", "ab" * 48)
    assert code == 2 and "manifest_mismatch" in err


def test_a_member_that_tells_of_another_line_is_refused(
    run: Run, mesh: Mesh, tmp_path: Path, line: tuple[Manifest, ...]
) -> None:
    owner = tmp_path / "owner.json"
    owner.write_bytes(mesh.root.canonical)
    served = exchange(tmp_path, lambda: lambda: build_history(line))
    with serve_documents(tmp_path, mesh.document, {HISTORY_PATH: served}) as server:
        code, out, err = run(server.url, "--owner", str(owner), "--mesh", MESH)
    assert (code, out) == (2, "") and "manifest_mismatch" in err


OFFLINE = ("--file", "x", "--digest", "00" * 48)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "URL"),
        (("https://a:1",), "--owner"),
        (("https://a:1", "--owner", "x"), "--mesh"),
        (("https://a:1", "--owner", "x", "--mesh", "m", "--digest", "00" * 48), "--digest"),
        (("--file", "x"), "--digest"),
        (("--file", "x", "--digest", "00"), "--digest"),
        (("https://a:1", *OFFLINE), "URL"),
        ((*OFFLINE, "--owner", "x"), "--owner"),
        ((*OFFLINE, "--out", "x"), "--out"),
        ((*OFFLINE, "--state", "x"), "--state"),
        ((*OFFLINE, "--min-version", "2"), "--min-version"),
        ((*OFFLINE, "--new-lineage", "00" * 48), "--new-lineage"),
    ],
)
def test_what_is_missing_or_would_be_ignored_is_a_usage_error(
    run: Run, arguments: tuple[str, ...], named: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "") and f"{named}: found" in err
