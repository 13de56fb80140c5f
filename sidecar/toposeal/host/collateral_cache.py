"""Collateral and endorsements on disk, with the high-water marks: what a restart and a dead network survive.

Every file is checked like anything else when it is read, so that whoever may write here can withhold and
can not forge. A file that does not hold counts as absent, and the journal says so. The marks are another
matter: without them older collateral would pass unseen. They are written before the first entry, and by
renaming, so that no crash leaves entries without marks; where they are missing or unreadable beside
entries, somebody or the disk has been at them, and the cache is refused until a person removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from toposeal.errors import EvidenceError, Reason, ToposealError, UsageError, printable
from toposeal.evidence.kds import vcek_path
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.host import journal
from toposeal.host.files import read_once, write_atomic
from toposeal.limits import MAX_CACHED_FILES, MAX_COLLATERAL_SIZE, MAX_MARKS_SIZE
from toposeal.verification.collateral_authentic import (
    AuthenticCollateral,
    AuthenticList,
    authenticate_amd_list,
    authenticate_collateral,
)
from toposeal.verification.high_water import Marks, parse_marks
from toposeal.verification.model import TrustAnchors
from toposeal.verification.stapled import with_newest_lists

_MARKS, _LOCK = "marks.json", "lock"
_TDX = re.compile(r"tdx-[0-9a-f]{12}\.json", re.ASCII)
_ENTRY = re.compile(r"(?:tdx|vcek|chain|crl)-[A-Za-z0-9_-]{1,200}\.(?:json|der|pem)", re.ASCII)
_LEFTOVER = re.compile(r".+\.new-[0-9a-f]{16}", re.ASCII)
_MODE, _DIRECTORY_MODE = 0o600, 0o700


Say = Callable[[str, ToposealError], None]


def tell_journal(name: str, error: ToposealError) -> None:
    """One line of the journal for one file."""
    first = error.mismatches[0]
    journal.event("collateral_file", file=name, reason=first.reason.value, found=first.found)


class CollateralCache:
    """One directory, which several processes may share. Every method blocks.

    `marks` are those of the disk and of this process together: they only rise, whatever becomes of the file.
    """

    def __init__(self, directory: str, anchors: TrustAnchors, say: Say = tell_journal) -> None:
        """Open or make `directory`; `say` hears of every file that does not hold or cannot be written.

        Raises UsageError: COLLATERAL_ROLLBACK where the marks are lost, USAGE where it cannot be used.
        """
        self._directory = directory
        self._anchors = anchors
        self._say = say
        self._rising = threading.Lock()
        try:
            os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise _unusable(directory, error, "a directory that can be written") from error
        with self._locked():
            for name in filter(_LEFTOVER.fullmatch, self._names()):
                self._remove(name)
            self.marks = self._read_marks()

    def store_tdx(self, entry: bytes, now: int) -> AuthenticCollateral:
        """Verify an entry at `now` (Unix seconds), raise the marks to it, keep it.

        For collateral that the caller's own service or file has given. Raises EvidenceError: what it is
        refused for, COLLATERAL_ROLLBACK where it is older than the marks.
        """
        found = authenticate_collateral(entry, self._anchors, now)
        self.marks.check(found)
        self._keep(self.marks.raised(found), f"tdx-{found.fmspc.hex()}.json", entry)
        return found

    def load_tdx(self, now: int) -> tuple[AuthenticCollateral, ...]:
        """Every entry that holds at `now`, by FMSPC; what does not is said and left out."""
        try:
            names = self._names()
        except UsageError as error:
            self._say(".", error)
            return ()
        read = {name: self._read(name) for name in sorted(filter(_TDX.fullmatch, names))}
        held = self._holding({name: data for name, data in read.items() if data is not None}, now)
        # Families were stored at different times; each is judged with the newest lists of them all.
        shared = with_newest_lists([entry.entry for entry in held.values()])
        found = self._holding(dict(zip(held, shared, strict=True)), now, self.marks)
        return tuple(found.values())

    def _holding(
        self, entries: Mapping[str, bytes], now: int, marks: Marks | None = None
    ) -> dict[str, AuthenticCollateral]:
        """Those that hold, and are not below `marks`, by name; of the others it is said why."""
        found = {}
        for name, data in entries.items():
            try:
                entry = authenticate_collateral(data, self._anchors, now)
                if marks is not None:
                    marks.check(entry)
                found[name] = entry
            except EvidenceError as error:
                self._say(name, error)
        return found

    def store_list(self, der: bytes, product: Product, kind: KeyKind, now: int) -> AuthenticList:
        """The same for AMD's revocation list of `product` that the CA of `kind` names."""
        found = authenticate_amd_list(der, self._anchors, now)
        self.marks.check_list(found, kind)
        self._keep(self.marks.raised_by_list(found, kind), f"crl-{product}-{kind}.der", der)
        return found

    def check_list(self, der: bytes, now: int) -> AuthenticList:
        """Verify a list of which nobody says which of its issuer's two it is: it has no mark and no file."""
        return authenticate_amd_list(der, self._anchors, now)

    def load_list(self, product: Product, kind: KeyKind, now: int) -> AuthenticList | None:
        name = f"crl-{product}-{kind}.der"
        data = self._read(name)
        if data is None:
            return None
        try:
            found = authenticate_amd_list(data, self._anchors, now)
            self.marks.check_list(found, kind)
        except EvidenceError as error:
            self._say(name, error)
            return None
        return found

    def store_chain(self, pem: bytes, product: Product, kind: KeyKind) -> None:
        """A chain that the caller has verified."""
        self._keep(self.marks, f"chain-{product}-{kind}.pem", pem)

    def load_chain(self, product: Product, kind: KeyKind) -> bytes | None:
        """PEM, unverified; None where there is none."""
        return self._read(f"chain-{product}-{kind}.pem")

    def store_vcek(self, der: bytes, product: Product, chip_id: bytes, tcb: SnpTcb) -> None:
        """A VCEK that the caller has verified; `chip_id` is 64 bytes."""
        self._keep(self.marks, _vcek_name(product, chip_id, tcb), der)

    def load_vcek(self, product: Product, chip_id: bytes, tcb: SnpTcb) -> bytes | None:
        """DER, unverified; None where there is none. Raises EvidenceError(CHIP_ID) for a masked chip."""
        return self._read(_vcek_name(product, chip_id, tcb))

    def _keep(self, marks: Marks, name: str, data: bytes) -> None:
        """The marks first, in memory, then on disk with what others have written there; then the file.

        A full or lost disk does not lower what this process has seen, and ends nothing that runs.
        """
        self._raise(marks)
        try:
            with self._locked():
                self._raise(self._read_marks())
                write_atomic(self._path(_MARKS), self.marks.dump(), _MODE)
                self._write(name, data)
        except UsageError as error:
            self._say(name, error)

    def _raise(self, marks: Marks) -> None:
        """Several threads store; none may put back what another has raised (S8)."""
        with self._rising:
            self.marks = self.marks.merged(marks)

    def _read_marks(self) -> Marks:
        """Their absence is what opening says: a listing that fails or leaves them out would cost them."""
        try:
            return parse_marks(read_once(self._path(_MARKS), MAX_MARKS_SIZE))
        except ToposealError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise self._lost(error) from error
        if any(map(_ENTRY.fullmatch, self._names())):
            raise self._lost("no marks beside entries")
        write_atomic(self._path(_MARKS), Marks().dump(), _MODE)
        return Marks()

    def _lost(self, found: object) -> UsageError:
        path = printable(self._path(_MARKS))
        expected = "the marks of the newest collateral seen; remove the whole directory to begin anew"
        return UsageError.of(Reason.COLLATERAL_ROLLBACK, path, found, expected)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._directory)
        except OSError as error:
            raise _unusable(self._directory, error, "a directory that can be read") from error

    def _read(self, name: str) -> bytes | None:
        path = self._path(name)
        if not os.path.lexists(path):
            return None
        try:
            return read_once(path, MAX_COLLATERAL_SIZE)
        except UsageError as error:
            self._say(name, error)
            return None

    def _write(self, name: str, data: bytes) -> None:
        kept = [each for each in self._names() if _ENTRY.fullmatch(each) and each != name]
        excess = len(kept) + 1 - MAX_CACHED_FILES
        for oldest in sorted(kept, key=self._modified)[: max(excess, 0)]:
            self._remove(oldest)
        write_atomic(self._path(name), data, _MODE)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
        except OSError as error:
            self._say(name, _unusable(name, error, "a file that can be removed"))

    def _modified(self, name: str) -> float:
        try:
            return os.stat(self._path(name), follow_symlinks=False).st_mtime
        except OSError:  # it has gone, and needs no removal
            return 0.0

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the kernel unlocks for a process that dies."""
        path = self._path(_LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise _unusable(path, error, "a file that can be written") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # a file system without locks
                raise _unusable(path, error, "a file that can be locked") from error
            yield
        finally:
            os.close(descriptor)


def _unusable(path: str, error: OSError, expected: str) -> UsageError:
    return UsageError.of(Reason.USAGE, printable(path), error.strerror, expected)


def _vcek_name(product: Product, chip_id: bytes, tcb: SnpTcb) -> str:
    """Product, chip and TCB version, as the service's own path names them."""
    path = vcek_path(product, chip_id, tcb)
    chip, levels = path.rsplit("/", 1)[1].split("?")
    return f"vcek-{product}-{chip}-{re.sub('[^0-9&]', '', levels).replace('&', '-')}.der"
