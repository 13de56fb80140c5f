"""What `make model` runs: the rules, which must hold, and each rule switched off, which must not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One run of Spin. `breaks` is the property that must fail, or "" if all must hold."""

    name: str
    model: str
    defines: str
    breaks: str = ""
    size: str = ""  # "small" also runs with --fast; "large" only with --deep


def chain(name: str, defines: str, breaks: str = "", size: str = "") -> Case:
    return Case(f"chain/{name}", "chain.pml", defines, breaks, size)


def progress(name: str, defines: str, breaks: str = "", size: str = "") -> Case:
    return Case(f"progress/{name}", "progress.pml", defines, breaks, size)


def lease(name: str, defines: str, breaks: str = "", size: str = "small") -> Case:
    return Case(f"lease/{name}", "lease.pml", defines, breaks, size)


_SMALL_ROUND = "FAULTS=1 CRASHES=0"
_ONE_OF_TWO = "MEMBERS=2 ROOT=3 WISHES=2"  # the second may want to leave
_TWO_PLACES = "ROOT=3 LARGEST=2 WISHES=2"  # and there is a newcomer, for whom there is room after it

CASES = (
    # The rules as they stand.
    chain("3+1 members, 3 manifests", "MANIFESTS=3"),
    chain("3+1 members, 2 manifests", "MANIFESTS=2", size="small"),
    chain("genesis, 3 members", "ROOT=0 MEMBERS=3", size="small"),
    chain("genesis, 4 members", "ROOT=0 FREE"),
    chain("genesis, no spare instances", "ROOT=0 MEMBERS=3 SMALLEST=2 ONE_MESH", size="small"),
    chain("two topology versions", "MANIFESTS=2 VERSIONS", size="small"),
    # Rules that differ from the text, and hold as well.
    chain("free adoption, 3+1 members", "FREE", size="small"),
    chain("free adoption, 4 members", "ROOT=15 FREE", size="small"),
    chain("free adoption, 2+2 members", "ROOT=3 FREE"),
    chain("LEAVE for one manifest", "LEAVE=ONCE MANIFESTS=2", size="small"),
    chain("LEAVE for one manifest, 3 manifests", "LEAVE=ONCE MEMBERS=3 FREE", size="small"),
    chain("LEAVE of the last but one, 2+2 members", "LEAVE=ONCE ROOT=3 FREE"),
    chain("LEAVE of the last but one, 2+1 members", "LEAVE=ONCE ROOT=3 MEMBERS=3 FREE", size="small"),
    chain("LEAVE of the only one, 1+2 members", "LEAVE=ONCE ROOT=1 MEMBERS=3 FREE", size="small"),
    chain("LEAVE below the last commitment", "LEAVE=ONCE LEAVE_BELOW MEMBERS=3 FREE", size="small"),
    chain("free adoption, 3+2 members", "FREE MEMBERS=5", size="large"),
    chain("free adoption, 4 manifests", "FREE MANIFESTS=4 MEMBERS=3", size="large"),
    chain("LEAVE for one manifest, 3+1 members", "LEAVE=ONCE FREE"),
    # One rule less each: S1 wherever it can be had.
    chain("without check 9", "NO_MAJORITY MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("majority of previous alone", "PREVIOUS_ONLY CHECK_CHAIN", "S1"),
    chain("proven active by one seal", "PROVEN_BY_ONE CHECK_CHAIN", "S1"),
    chain("late seal", "LATE_SEAL MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("two commitments in an epoch", "TWICE MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("two commitments in an epoch (S3)", "TWICE MANIFESTS=2", "S3", "small"),
    chain("a lower epoch", "LOWER_EPOCH MANIFESTS=2", "S3", "small"),
    chain("switching branches", "SWITCH MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("adopting a sibling", "ADOPT_SIBLING CHECK_CHAIN", "S1", "small"),
    chain("genesis after a seal", "ROOT=0 MEMBERS=3 MANIFESTS=2 GENESIS_AGAIN CHECK_CHAIN", "S6", "small"),
    chain("a seal with n - 1 commitments", "ALL_BUT_ONE MANIFESTS=2", "S2", "small"),
    chain("active without SEALED of all", "ACTIVE_BY_ONE MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("an older topology", "VERSIONS OLD_TOPOLOGY MANIFESTS=2", "S8", "small"),
    chain("LEAVE for an epoch", "LEAVE=EPOCH MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain(
        "LEAVE for an epoch, 5 members",
        "LEAVE=EPOCH ROOT=31 MEMBERS=5 SMALLEST=2 MANIFESTS=2 CHECK_CHAIN",
        "S1",
    ),
    chain("LEAVE twice", "LEAVE=AGAIN MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("LEAVE without fencing", "LEAVE=ONCE UNFENCED MANIFESTS=2 CHECK_CHAIN", "S1", "small"),
    chain("LEAVE without fencing, 2 members", "LEAVE=ONCE UNFENCED ROOT=3 FREE CHECK_CHAIN", "S1", "small"),
    chain("LEAVE and commitments after it", "LEAVE=ONCE COMMITS_ON ROOT=3 FREE CHECK_CHAIN", "S1", "small"),
    chain("LEAVE for any manifest", "LEAVE=ONCE ELSEWHERE FREE CHECK_CHAIN", "S1"),
    # Not to be prevented: the host has instances enough for two meshes.
    chain("a second mesh", "ROOT=0 MANIFESTS=2 SMALLEST=2 ONE_MESH", "S1", "small"),
    # One rule less without harm to S1: another rule stands behind it.
    chain("late seal where the member stands", "LATE_SEAL STANDS FREE CHECK_CHAIN"),
    chain("genesis with a certificate in hand", "ROOT=0 MEMBERS=3 GENESIS_HOLDING", size="small"),
    # Rounds end.
    progress("2 faults", "FAULTS=2 CRASHES=0", size="small"),
    progress("2 faults, 1 crash", "FAULTS=2 CRASHES=1", size="small"),
    progress("1 fault, 2 crashes", "FAULTS=1 CRASHES=2", size="small"),
    progress("1 fault, 1 cut", "FAULTS=1 CRASHES=0 CUTS=1", size="small"),
    progress("1 fault, 1 crash, 1 cut", "FAULTS=1 CRASHES=1 CUTS=1"),
    progress("4 members, 2 faults", "MEMBERS=4 ROOT=15 FAULTS=2 CRASHES=0", size="small"),
    progress("4 members, 1 fault, 1 crash", "MEMBERS=4 ROOT=15 FAULTS=1 CRASHES=1", size="small"),
    progress("2 members and a newcomer", "ROOT=3 FAULTS=2 CRASHES=1", size="small"),
    progress("every run ends", "FAULTS=2 CRASHES=1 CYCLES"),  # Spin looks for cycles instead
    progress("binding adoption", "MEMBERS=4 ROOT=15 FAULTS=2 CRASHES=0 BINDING", size="small"),
    progress("quotes, members overlooked", "FAULTS=1 CRASHES=0 OVERLOOK_ONLY", size="small"),
    progress("4 members, 3 faults", "MEMBERS=4 ROOT=15 FAULTS=3 CRASHES=0", size="large"),
    progress("no adoption", "ROOT=3 FAULTS=2 CRASHES=0 NO_ADOPTION", "L1", "small"),
    progress("the lowest certificate", "MEMBERS=4 ROOT=15 FAULTS=2 CRASHES=0 LOWEST", "L1", "small"),
    progress("a certificate of the dead", "FAULTS=1 CRASHES=1 CUTS=1 DEAD_END", "L1", "small"),
    progress("sealed waits for ever", f"{_SMALL_ROUND} WAITS", "L1", "small"),
    progress("no following", f"{_SMALL_ROUND} NO_FOLLOWING", "L1", "small"),
    progress("no leases", "FAULTS=1 CRASHES=1 NO_LEASES", "L1", "small"),
    progress("PROPOSE not awaited", f"{_SMALL_ROUND} OVERLOOK_ONLY NO_PROPOSE", "L4", "small"),
    # Who leaves gets away, and who stays is active without it.
    progress("LEAVE, 2 members", f"{_ONE_OF_TWO} {_SMALL_ROUND}", size="small"),
    progress("LEAVE, 2 members, 1 crash", f"{_ONE_OF_TWO} FAULTS=1 CRASHES=1", size="small"),
    progress("LEAVE, 2 members, 2 places, a newcomer", f"{_TWO_PLACES} {_SMALL_ROUND}", size="small"),
    progress("LEAVE of the only member", f"MEMBERS=2 ROOT=1 LARGEST=1 WISHES=1 {_SMALL_ROUND}", size="small"),
    progress("2 members and a newcomer, 1 leaves", "ROOT=3 WISHES=2 FAULTS=0 CRASHES=0", size="small"),
    progress("3 members, 2 leave", "ROOT=7 WISHES=6 FAULTS=0 CRASHES=0", size="small"),
    progress("LEAVE does not count", f"{_ONE_OF_TWO} {_SMALL_ROUND} UNCOUNTED", "L2", "small"),
    progress("LEAVE counts for one manifest alone", f"{_TWO_PLACES} {_SMALL_ROUND} FOR_ONE", "L2", "small"),
    progress("LEAVE is not asked for", f"{_ONE_OF_TWO} {_SMALL_ROUND} UNASKED", "L2", "small"),
    progress("LEAVE of who has not sealed", f"{_ONE_OF_TWO} {_SMALL_ROUND} UNSEALED", "L1", "small"),
    # An evicted member stops serving.
    lease("renewal ends with the seal", "", ""),
    lease("renewal until active", "UNTIL_ACTIVE", "L3"),
    lease("no lease", "NO_LEASE", "L3"),
)
