"""Asks every member of a verified mesh for its own LIVE evidence, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from toposeal.errors import Mismatch, ToposealError
from toposeal.host.entropy import random_bytes
from toposeal.host.fetch import fetch_document
from toposeal.limits import NONCE_SIZE
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.model import VerifiedMember, VerifiedMesh, VerifyRequest
from toposeal.outside.verify import verify_document, with_answer

_ASKED_AT_ONCE = 16


def ask_others(
    mesh: VerifiedMesh,
    request: VerifyRequest,
    timeout_s: float,
    progress: Callable[[str], None] = lambda doing: None,
) -> VerifiedMesh:
    """`mesh`, proven by all of its members: each has to answer at its own address, within `timeout_s`, to a
    nonce of its own. The first refusal, in the manifest's order, is raised, naming the member.
    """
    others = [member for member in mesh.members if member not in mesh.proven]

    def ask(member: VerifiedMember) -> VerifiedMesh:
        asked = replace(request, nonce=random_bytes(NONCE_SIZE))
        endpoint = Endpoint.of_member(member.domain, member.addresses[0], mesh.attestation_port)
        return verify_document(fetch_document(endpoint, asked.nonce, timeout_s), asked)

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        for member, answer in zip(others, [pool.submit(ask, each) for each in others], strict=True):
            progress(f"asking every member: {len(mesh.proven)} of {len(mesh.members)} have answered")
            try:
                mesh = with_answer(mesh, member, answer.result())
            except ToposealError as error:
                pool.shutdown(cancel_futures=True)
                raise type(error)(*(_of_member(member, each) for each in error.mismatches)) from error
    return mesh


def _of_member(member: VerifiedMember, found: Mismatch) -> Mismatch:
    name = f"{member.role} {member.domain} at {member.addresses[0]}"
    return Mismatch(found.reason, f"{name}: {found.field}", found.found, found.expected)
