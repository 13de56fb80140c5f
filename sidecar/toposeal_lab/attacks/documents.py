"""Attestation documents that say something else than one member says now."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial

from toposeal._wire.attestation_pb2 import AttestationDocument
from toposeal._wire.evidence_pb2 import Evidence
from toposeal._wire.peer_pb2 import Manifest
from toposeal.encoding import encode
from toposeal.evidence.nonce_tree import tree_root
from toposeal_lab.attacks.stage import Stage
from toposeal_lab.checks import expect
from toposeal_lab.mitm import document_of, relay
from toposeal_lab.scenario import ATTESTATION_PORT

Change = Callable[[AttestationDocument], None]


def run(stage: Stage) -> None:
    """A relay sits between the verifier and web, and changes what it relays."""
    url = f"https://{stage.member('web').pod.ipv4}:{ATTESTATION_PORT}"
    fetch = partial(document_of, url, stage.world.outside)
    recorded = fetch(secrets.token_bytes(32))
    attacks: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "a replayed attestation document is refused": ("nonce_mismatch", lambda _: recorded),
        "a replayed document under the verifier's nonce is refused": (
            "report_data",
            lambda nonce: _changed(recorded, partial(_set_nonce, nonce)),
        ),
        "an altered manifest (next epoch) is refused": (
            "stale_attempt",
            lambda nonce: _changed(fetch(nonce), _next_epoch),
        ),
        "an altered manifest (a member left out) is refused": (
            "manifest_bounds",
            lambda nonce: _changed(fetch(nonce), _one_less),
        ),
        "the quote of another member is refused": (
            "report_data",
            lambda nonce: _changed(fetch(nonce), _swap_quotes),
        ),
    }
    for name, (reason, answer) in attacks.items():
        stage.checks.attack(
            name, partial(_relayed, stage, fetch, None), partial(_relayed, stage, answer, reason)
        )


def _relayed(stage: Stage, answer: Callable[[bytes], bytes], reason: str | None) -> str:
    """`toposeal verify` of what the relay serves: verified, or refused for `reason`."""
    with relay(stage.rogue, ATTESTATION_PORT, answer) as url:
        done = stage.world.outside.run(stage.world.verify_command(url), check=False)
    verdict = json.loads(done.stdout)
    expect(verdict["verified"] is (reason is None), verdict, reason or "a verified mesh")
    if reason is None:
        return "the same relay without a change: verified"
    expect(reason in verdict["reasons"], verdict["reasons"], reason)
    first = verdict["mismatches"][0]
    return f"exit {done.returncode}, {first['reason']} at {first['field']}"


def _changed(document: bytes, change: Change) -> bytes:
    parsed = AttestationDocument.FromString(document)
    change(parsed)
    return encode(parsed)


def _set_nonce(nonce: bytes, document: AttestationDocument) -> None:
    document.live.challenge = tree_root((nonce,))


def _next_epoch(document: AttestationDocument) -> None:
    manifest = Manifest.FromString(document.manifest)
    manifest.epoch += 1
    document.manifest = encode(manifest)


def _one_less(document: AttestationDocument) -> None:
    manifest = Manifest.FromString(document.manifest)
    del manifest.members[0], document.members[0]
    document.manifest = encode(manifest)


def _swap_quotes(document: AttestationDocument) -> None:
    """Two members of one role, so that only what the quotes say tells them apart."""
    one, two = document.members[0].commit, document.members[1].commit
    first = Evidence.FromString(encode(one.evidence))
    one.evidence.CopyFrom(two.evidence)
    two.evidence.CopyFrom(first)
