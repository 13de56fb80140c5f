"""Transcripts and digests computed again from their definitions, apart from the code under test."""

from __future__ import annotations

import hashlib

from toposeal._wire import peer_pb2 as wire


def lp(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def sha384(tag: str, body: bytes) -> bytes:
    return hashlib.sha384(tag.encode() + lp(body)).digest()


def seal_report_data(manifest: wire.Manifest, d: bytes, entry: wire.Entry) -> bytes:
    """report_data of a SEAL quote, from the definition in PROTOCOL.md 2.4."""
    return hashlib.sha512(
        b"toposeal/v1/rd\x02"
        + manifest.mesh_id
        + manifest.topology_digest
        + manifest.epoch.to_bytes(8, "big")
        + d
        + lp(entry.role.encode())
        + entry.iid
        + entry.hello_digest
        + bytes(32)
        + b"\x01"
    ).digest()
