"""Where the daemon has collateral from: a file, or a cache that a service keeps fresh in the background.

`current` answers at once with what is at hand. Nothing here decides on evidence: what is expired or missing
is refused where evidence is appraised, and never skipped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from toposeal.errors import EvidenceError, NetworkError, ToposealError
from toposeal.evidence.bundle import EMPTY, Bundle
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product
from toposeal.host import journal
from toposeal.host.collateral_cache import CollateralCache
from toposeal.host.kds import Kds
from toposeal.host.pcs import Pcs
from toposeal.limits import COLLATERAL_REFRESH, COLLATERAL_RETRY, MAX_COLLATERAL_ENTRIES, MAX_CRLS
from toposeal.verification.collateral_authentic import AuthenticCollateral, AuthenticList
from toposeal.verification.high_water import Marks
from toposeal.verification.stapled import with_newest_lists

_Fetch = Callable[[int], AuthenticCollateral | AuthenticList]
_PACE = 1.0  # seconds between two parts: vendors' services count requests, and strangers may cause some
_EARLY = 0.5  # a part is asked for anew when half of what was left of it has passed


@dataclass(frozen=True)
class Current:
    """What appraisal takes: TDX entries (JSON) and AMD's revocation lists (DER)."""

    tdx: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()


class CollateralSource(Protocol):
    """`run` is a task of the daemon's; `want_*`, from any thread, tell what evidence needs."""

    @property
    def marks(self) -> Marks: ...
    def current(self) -> Current: ...
    def want_tdx(self, fmspc: bytes, own: bool = False) -> None: ...
    def want_list(self, product: Product, kind: KeyKind) -> None: ...
    def settle(self, timeout_s: float) -> None: ...
    async def run(self) -> None: ...


class FileSource:
    """One file, read at start: nothing is fetched and no mark is kept."""

    marks = Marks()

    def __init__(self, bundle: Bundle) -> None:
        self._current = Current(bundle.tdx, bundle.crls)

    def current(self) -> Current:
        return self._current

    def want_tdx(self, fmspc: bytes, own: bool = False) -> None:
        """A file has what it has."""

    def want_list(self, product: Product, kind: KeyKind) -> None:
        """A file has what it has."""

    def settle(self, timeout_s: float) -> None:
        """It is all there from the start."""

    async def run(self) -> None:
        """Nothing is to be done."""


@dataclass
class _Want:
    """One part: when it is asked for next (milliseconds of the journal's clock), and after which pause."""

    fetch: _Fetch
    due: int
    pause: int
    own: bool = False


class CachedSource:
    """The cache, kept fresh from `pcs` and `kds`, and seeded with the owner's bundle."""

    def __init__(self, cache: CollateralCache, pcs: Pcs, kds: Kds, bundle: Bundle = EMPTY) -> None:
        """Load what the disk has; blocks for that long. Refused parts of `bundle` are said and left out."""
        self._cache, self._pcs, self._kds = cache, pcs, kds
        self._entries: dict[bytes, AuthenticCollateral] = {}
        self._lists: dict[str, AuthenticList] = {}
        self._seeds: list[bytes] = []
        self._wants: dict[str, _Want] = {}
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._had = threading.Condition()
        self._needed: set[str] = set()
        self._known: set[str] = set()
        self._current = Current()
        self._load(bundle, int(time.time()))

    @property
    def marks(self) -> Marks:
        return self._cache.marks

    def current(self) -> Current:
        return self._current

    def want_tdx(self, fmspc: bytes, own: bool = False) -> None:
        """Ask for the collateral of a platform family from now on.

        The one that nobody has asked for the longest gives way to the seventeenth, since strangers may name
        families too; this machine's `own` never does.
        """

        def fetch(now: int) -> AuthenticCollateral:
            return self._cache.store_tdx(self._pcs.collateral(fmspc), now)

        self._soon(f"tdx {fmspc.hex()}", fetch, own)

    def want_list(self, product: Product, kind: KeyKind) -> None:
        """Ask for a revocation list of AMD's from now on."""

        def fetch(now: int) -> AuthenticList:
            return self._cache.store_list(self._kds.revocation_list(product, kind), product, kind, now)

        self._soon(f"crl {product} {kind}", fetch, own=True)

    def settle(self, timeout_s: float) -> None:
        """Block until all that is our own to want has been had once, or `timeout_s` has passed."""
        with self._had:
            self._had.wait_for(lambda: self._needed <= self._known, timeout_s)

    async def run(self) -> None:
        """Fetch what is due, one part after the other, in a thread; never returns."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            for name, want in self._due():
                await self._refresh(name, want)
                await asyncio.sleep(_PACE)
            if not self._due():
                await self._wait()

    def _soon(self, name: str, fetch: _Fetch, own: bool) -> None:
        """Evidence is appraised in threads; everything else here belongs to the loop."""
        if own:
            with self._had:
                self._needed.add(name)
        if self._loop is None:
            self._want(name, fetch, own)
        else:
            self._loop.call_soon_threadsafe(self._want, name, fetch, own)

    def _want(self, name: str, fetch: _Fetch, own: bool) -> None:
        want = self._wants.pop(name, None) or _Want(fetch, journal.clock_ms(), COLLATERAL_RETRY)
        want.own |= own
        if len(self._wants) == MAX_COLLATERAL_ENTRIES:
            others = [each for each, other in self._wants.items() if not other.own]
            if not others:
                return
            del self._wants[others[0]]
        self._wants[name] = want
        self._woken.set()

    def _due(self) -> list[tuple[str, _Want]]:
        now = journal.clock_ms()
        return [(name, want) for name, want in self._wants.items() if want.due <= now]

    async def _wait(self) -> None:
        due = min((want.due for want in self._wants.values()), default=None)
        timeout = None if due is None else max(due - journal.clock_ms(), 0) / 1000
        try:
            await asyncio.wait_for(self._woken.wait(), timeout)
        except TimeoutError:
            return

    async def _refresh(self, name: str, want: _Want) -> None:
        now = int(time.time())
        try:
            found = await asyncio.to_thread(want.fetch, now)
        except (NetworkError, EvidenceError) as error:
            journal.mismatch("collateral_refused", error.mismatches[0])
            want.due = journal.clock_ms() + want.pause
            want.pause = min(2 * want.pause, COLLATERAL_REFRESH)
            return
        want.pause = COLLATERAL_RETRY
        left = int((found.valid_until - now) * 1000 * _EARLY)
        want.due = journal.clock_ms() + max(min(COLLATERAL_REFRESH, left), COLLATERAL_RETRY)
        self._take(name, found)
        journal.event("collateral", part=name, valid_until=found.valid_until)

    def _take(self, name: str, found: AuthenticCollateral | AuthenticList) -> None:
        if isinstance(found, AuthenticCollateral):
            self._entries[found.fmspc] = found
            excess = max(len(self._entries) - MAX_COLLATERAL_ENTRIES, 0)
            for fmspc in sorted(self._entries, key=self._is_wanted)[:excess]:
                del self._entries[fmspc]
        else:
            self._lists[name] = found
        tdx = with_newest_lists([each.entry for each in self._entries.values()])
        self._current = Current(tdx, self._crls())
        with self._had:
            self._known.add(name)
            self._had.notify_all()

    def _is_wanted(self, fmspc: bytes) -> bool:
        """Of all wants there are no more than entries may be, and our own are always among them."""
        return f"tdx {fmspc.hex()}" in self._wants

    def _crls(self) -> tuple[bytes, ...]:
        """The lists that were fetched, then the owner's, as many as a document may carry."""
        fetched = [each.der for each in self._lists.values()]
        return tuple(dict.fromkeys((*fetched, *self._seeds)))[:MAX_CRLS]

    def _load(self, bundle: Bundle, now: int) -> None:
        for der in bundle.crls:
            try:
                self._seeds.append(self._cache.check_list(der, now).der)
            except EvidenceError as error:
                _said(error)
        self._current = Current((), self._crls())
        for entry in bundle.tdx:
            try:
                self._cache.store_tdx(entry, now)
            except EvidenceError as error:
                _said(error)
        for found in self._cache.load_tdx(now)[:MAX_COLLATERAL_ENTRIES]:
            self._take(f"tdx {found.fmspc.hex()}", found)
            self.want_tdx(found.fmspc)
        for product in Product:
            for kind in KeyKind:
                known = self._cache.load_list(product, kind, now)
                if known is not None:
                    self._take(f"crl {product} {kind}", known)
                    self.want_list(product, kind)


def _said(error: ToposealError) -> None:
    journal.mismatch("collateral_refused", error.mismatches[0])
