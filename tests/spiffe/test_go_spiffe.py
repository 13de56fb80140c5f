"""Two applications, each with what its own sidecar tells it, by go-spiffe: make spiffe."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.forge import TestMember
from support.identified import identity_of, listening, view_of
from support.shop import role, topology

from toposeal.topology.model import Call

GO = shutil.which("go")
HERE = Path(__file__).parent
ASKS = topology(
    role("web", 1, calls=(Call("db", 8080),), workload_api=True),
    role("db", 1, serves=(8080,), workload_api=True),
)
WEB, DB, STRANGER = TestMember("web"), TestMember("db"), TestMember("web")

pytestmark = pytest.mark.skipif(GO is None, reason="make spiffe needs Go")


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory, "client")
        command = [str(GO), "build", "-C", str(HERE / "go"), "-mod=readonly", "-o", str(built), "."]
        subprocess.run(command, check=True)
        yield built


def told(program: Path, demanded: str, known_to_db: TestMember) -> dict[str, Any]:
    """What go-spiffe says, where db's manifest has `known_to_db` for web."""

    async def go() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            web, db = f"{directory}/web.sock", f"{directory}/db.sock"
            async with identity_of(WEB, ASKS, web) as webs, identity_of(DB, ASKS, db) as dbs:
                webs.entitle(view_of(WEB, (DB, WEB), ASKS))
                dbs.entitle(view_of(DB, (DB, known_to_db), ASKS))
                await listening(web)
                await listening(db)
                command = [str(program), web, db, demanded]
                done = await asyncio.to_thread(
                    subprocess.run, command, capture_output=True, timeout=60, check=True
                )
        return dict(json.loads(done.stdout))

    return asyncio.run(go())


def test_two_applications_speak_tls_by_what_their_sidecars_tell_them(program: Path) -> None:
    caller = f"spiffe://{WEB.domain}/web/app"
    found = told(program, caller, WEB)
    assert (found["web"], found["db"]) == (caller, f"spiffe://{DB.domain}/db/app")
    assert sorted(found["bundles"]) == sorted([WEB.domain, DB.domain])
    assert (found["call"], found["jwt"]) == ("from db", "Unimplemented")


@pytest.mark.parametrize(
    ("demanded", "known"),
    [(f"spiffe://{WEB.domain}/db/app", WEB), (f"spiffe://{WEB.domain}/web/app", STRANGER)],
    ids=["of another role", "of no member that it knows"],
)
def test_K1_whoever_is_not_the_one_demanded_is_refused(
    program: Path, demanded: str, known: TestMember
) -> None:
    assert told(program, demanded, known)["call"] == "refused"
