"""The file of last visits: read, checked and rewritten as one step, whoever else does the same."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from toposeal.errors import Reason, UsageError
from toposeal.host.files import read_once, write_atomic
from toposeal.limits import MAX_VISITS_SIZE
from toposeal.outside import visits
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.visits import Visits


def check_visits(path: str) -> None:
    """Raise UsageError for a file that could not be used after a verification."""
    _read(path)


def remember(path: str, mesh: VerifiedMesh, new_lineage: bytes | None) -> None:
    """Compare `mesh` with the last visit and write this one. Raises PolicyError, as `visits.after` does,
    and UsageError; the file is then as it was."""
    with _locked(f"{path}.lock"):
        write_atomic(path, visits.dump(visits.after(_read(path), mesh.mesh_id, mesh, new_lineage)))


def _read(path: str) -> Visits:
    """Nothing, if there is no such file."""
    if not os.path.lexists(path):
        return {}
    return visits.parse(read_once(path, MAX_VISITS_SIZE))


@contextmanager
def _locked(path: str) -> Iterator[None]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError.of(Reason.USAGE, path, error.strerror, "a lock beside the state file") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
