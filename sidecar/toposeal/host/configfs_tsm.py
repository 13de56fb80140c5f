"""Reports from the kernel's configfs-tsm interface (Linux ABI, testing/configfs-tsm), TDX's and SNP's.

A private entry per request, one write, and three independent proofs that the answer is ours: the write
counter before and after, and the report data inside the report itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from toposeal.host.driver_call import DriverCalls
from toposeal.host.tee_report import (
    SEV_GUEST,
    TDX_GUEST,
    ProviderName,
    TeeReport,
    check_size,
    expect_report_data,
    refusal,
    until,
)
from toposeal.limits import MAX_CERTIFICATE_TABLE_SIZE, MAX_QUOTE_SIZE

REPORT_DIRECTORY = "/sys/kernel/config/tsm/report"
T = TypeVar("T")
_TEXT_LIMIT = 4096  # one page: the size of every text attribute

# Asking again can help: the previous quote is in flight, a signal, a slow host, no memory just now.
_TRANSIENT = frozenset(
    {errno.EBUSY, errno.EINTR, errno.ETIMEDOUT, errno.EAGAIN, errno.EEXIST, errno.ENOMEM, errno.ENOSPC}
)
_MEANINGS = MappingProxyType(
    {
        errno.ENXIO: "no provider, or the security processor refuses",
        errno.ENOTTY: "the key to the security processor is wiped until the next boot, or the driver is gone",
    }
)


class ConfigfsTsm:
    """The pod's source of reports. One request at a time: a driver has one buffer for all of them."""

    def __init__(self, report_dir: str = REPORT_DIRECTORY) -> None:
        self._report_dir = report_dir
        self._calls = DriverCalls(refusal, "outblob")

    def report(self, report_data: bytes, deadline_s: float) -> TeeReport:
        """The report for `report_data` (64 bytes); blocks up to `deadline_s` seconds.

        Transient failures are tried again, each in a new entry, until then. A read that hangs in the
        kernel is abandoned: its thread cleans up whenever it returns, and until then every further
        request is refused. Raises QuoteSourceError; its `retry` says whether a later call can help.
        """
        check_size(report_data)
        end = time.monotonic() + deadline_s
        attempt = partial(self._in_entry, partial(_request, report_data=report_data))
        return self._calls.call(lambda: until(end, attempt), deadline_s)

    def provider(self, deadline_s: float) -> ProviderName:
        """The driver that would answer; no report is asked for, but one in flight may have to be waited for,
        up to `deadline_s` seconds. Raises QuoteSourceError.
        """
        return self._calls.call(partial(self._in_entry, _provider), deadline_s)

    def _in_entry(self, use: Callable[[str], T]) -> T:
        """What `use` makes of one private entry, which is always removed (rmdir alone can)."""
        entry = os.path.join(self._report_dir, f"toposeal-{secrets.token_hex(8)}")
        try:
            os.mkdir(entry, 0o700)
            try:
                return use(entry)
            finally:
                os.rmdir(entry)
        except OSError as error:
            number = error.errno or 0
            found = f"{errno.errorcode.get(number)}: {_MEANINGS.get(number, error.strerror)}"
            raise refusal(error.filename, found, "success", number in _TRANSIENT) from error


def _request(entry: str, report_data: bytes) -> TeeReport:
    provider = _provider(entry)
    expected = _number(entry, "generation") + 1
    floor = _number(entry, "privlevel_floor") if provider == SEV_GUEST else 0
    if floor:
        # Without a word the driver asks for level 0, which the processor refuses to a guest further out.
        _write(entry, "privlevel", b"%d\n" % floor)
        expected += 1
    _write(entry, "inblob", report_data)
    # The store runs at close and its error is thrown away: only the counter tells that it worked.
    _expect_generation(entry, expected)
    outblob = _read(entry, "outblob", MAX_QUOTE_SIZE)
    _expect_generation(entry, expected)
    if not outblob:
        raise refusal("outblob", "nothing", "a report: is the host's quoting service configured?", retry=True)
    expect_report_data(provider, outblob, report_data, "outblob", retry=True)
    if provider == TDX_GUEST:
        return TeeReport(provider, outblob, b"")
    # One generation has one set of blobs: with the counter where it was, this table came with the report.
    auxblob = _read(entry, "auxblob", MAX_CERTIFICATE_TABLE_SIZE)
    _expect_generation(entry, expected)
    return TeeReport(provider, outblob, auxblob)


def _provider(entry: str) -> ProviderName:
    text = _read(entry, "provider", _TEXT_LIMIT)
    for name in (TDX_GUEST, SEV_GUEST):
        if text == f"{name}\n".encode("ascii"):
            return name
    raise refusal("provider", text.strip(), f"{TDX_GUEST} or {SEV_GUEST}")


def _expect_generation(entry: str, expected: int) -> None:
    """Another number means that our write failed unseen, or that someone else wrote too (E15)."""
    found = _number(entry, "generation")
    if found != expected:
        raise refusal("generation", found, expected, retry=True)


def _number(entry: str, attribute: str) -> int:
    text = _read(entry, attribute, _TEXT_LIMIT).strip()
    if not text.isdigit():
        raise refusal(attribute, text, "a number")
    return int(text)


def _read(entry: str, attribute: str, limit: int) -> bytes:
    """All of an attribute; stat shows blobs with size 0, so only end of file tells."""
    data = bytearray()
    with _open(entry, attribute, os.O_RDONLY) as file:
        while piece := os.read(file, limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise refusal(attribute, f"more than {limit} bytes", f"at most {limit}")
    return bytes(data)


def _write(entry: str, attribute: str, data: bytes) -> None:
    """One unbuffered write: a second one would be joined to it, a short one quoted as it is."""
    with _open(entry, attribute, os.O_WRONLY) as file:
        written = os.write(file, data)
    if written != len(data):
        raise refusal(attribute, f"{written} bytes written", len(data), retry=True)


@contextmanager
def _open(entry: str, attribute: str, flags: int) -> Iterator[int]:
    """A descriptor of an attribute. Every OSError inside, that of close included, names the file."""
    path = os.path.join(entry, attribute)
    try:
        file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield file
        finally:
            os.close(file)
    except OSError as error:
        error.filename = path
        raise
