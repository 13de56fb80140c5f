"""The outside verifier put together: entropy, network and clock around the pure check."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from toposeal.errors import Reason, TopologyError, UsageError
from toposeal.evidence.bundle import EMPTY
from toposeal.host.collateral_file import read_bundle
from toposeal.host.entropy import random_bytes
from toposeal.host.fetch import fetch_document
from toposeal.host.files import read_once
from toposeal.host.visits_file import check_visits, remember
from toposeal.limits import MAX_OWNER_ROOT_SIZE, NONCE_SIZE, VERIFY_TIMEOUT
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.model import VerifiedMesh, VerifyRequest
from toposeal.outside.verify import verify_document
from toposeal.topology.owner import OwnerRoot
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.model import AppraisalContext, TrustAnchors

Path = str | os.PathLike[str]
Progress = Callable[[str], None]  # is told what is being done, in a few words


def verify(
    url: str,
    *,
    owner: bytes | Path,
    mesh: str,
    min_version: int = 1,
    collateral: Path | None = None,
    connect: str | None = None,
    all_members: bool = False,
    state: Path | None = None,
    new_lineage: bytes | None = None,
    timeout_s: float = VERIFY_TIMEOUT / 1000,
) -> VerifiedMesh:
    """Check the mesh behind `url` (https://HOST:PORT) now, on a nonce drawn for this call. Blocks.

    `owner` is the owner root's content or its file, `min_version` the lowest topology version that is
    not a rollback, `collateral` a file that replaces what the mesh sends, `connect` a HOST:PORT to
    dial instead of the URL's. `all_members` asks every other member too, at its own address, and each has
    to answer. `state` is a file of last visits: numbers never fall and the lineage stays, unless it is
    `new_lineage` (48 bytes). Only the hardware vendors' roots are trusted.

    Raises UsageError (arguments), NetworkError (no answer in `timeout_s`), EvidenceError or
    RemoteProtocolError (something does not hold), PolicyError (it holds and is not acceptable).
    """
    return verify_with(
        VENDOR_ANCHORS,
        url,
        owner=owner,
        mesh=mesh,
        min_version=min_version,
        collateral=collateral,
        connect=connect,
        all_members=all_members,
        state=state,
        new_lineage=new_lineage,
        timeout_s=timeout_s,
    )


def verify_with(
    anchors: TrustAnchors,
    url: str,
    *,
    owner: bytes | Path,
    mesh: str,
    min_version: int,
    collateral: Path | None,
    connect: str | None,
    all_members: bool = False,
    state: Path | None = None,
    new_lineage: bytes | None = None,
    timeout_s: float = VERIFY_TIMEOUT / 1000,
    progress: Progress = lambda doing: None,
) -> VerifiedMesh:
    """`verify` under the roots of a composition root; only the lab's are not the vendors'."""
    endpoint = Endpoint.parse(url, connect)
    parts = EMPTY if collateral is None else read_bundle(os.fspath(collateral))
    if new_lineage is not None and state is None:
        raise UsageError.of(Reason.USAGE, "new_lineage", "no state", "a file of last visits")
    if state is not None:
        check_visits(os.fspath(state))
    request = VerifyRequest(
        owner=_owner_root(owner),
        mesh=mesh,
        min_version=min_version,
        nonce=random_bytes(NONCE_SIZE),
        context=AppraisalContext(anchors, parts.tdx, int(time.time()), parts.crls),
    )
    progress(f"asking {endpoint.authority} for its attestation document")
    document = fetch_document(endpoint, request.nonce, timeout_s)
    progress(f"checking the document: {-(-len(document) // 1024)} KiB of evidence")
    found = verify_document(document, request)
    if all_members:
        from toposeal.host.ask_all import ask_others  # threads, which one document does not need

        found = ask_others(found, request, timeout_s, progress)
    if state is not None:
        remember(os.fspath(state), found, new_lineage)
    return found


def _owner_root(owner: bytes | Path) -> OwnerRoot:
    data = owner if isinstance(owner, bytes) else read_once(os.fspath(owner), MAX_OWNER_ROOT_SIZE)
    try:
        return OwnerRoot.parse(data)
    except TopologyError as error:  # the caller's file, so the caller's fault
        raise UsageError(*error.mismatches) from error
