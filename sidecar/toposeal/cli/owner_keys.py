"""The owner's key files: PEM in, PEM and the owner root out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from toposeal.errors import Reason, UsageError, printable
from toposeal.host.files import read_once, read_secret, write_new
from toposeal.limits import MAX_KEY_FILE_SIZE, MAX_OWNER_ROOT_SIZE
from toposeal.topology.owner import OwnerKey, OwnerRoot, PrivateKey, spki

_PUBLIC = 0o644


def read_owner(path: str) -> OwnerRoot:
    """The owner root in the file `path`. Raises UsageError or TopologyError."""
    return OwnerRoot.parse(read_once(path, MAX_OWNER_ROOT_SIZE))


def read_private_key(path: str, root: OwnerRoot) -> PrivateKey:
    """A key of `root` from an unencrypted PEM file that only its owner can read (C1)."""
    data = read_secret(path, MAX_KEY_FILE_SIZE)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused(path, type(error).__name__, "an unencrypted private key as PEM") from error
    if not isinstance(key, (Ed25519PrivateKey, EllipticCurvePrivateKey)):
        raise _refused(path, type(key).__name__, "an Ed25519 or ECDSA P-256 key")
    public = spki(key.public_key())
    if all(known.spki != public for known in root.keys):
        raise _refused(path, "a key that the owner root does not name", "a key of the owner root")
    return key


def make_key(key_path: str, owner_path: str | None, others: Sequence[str], threshold: int | None) -> None:
    """Write a new Ed25519 key, `key_path`.pub and, if asked, the owner root of it and `others`.

    Raises UsageError before anything is written when one of the files is there already.
    """
    key = Ed25519PrivateKey.generate()
    files = [
        (key_path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600),
        (
            f"{key_path}.pub",
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            _PUBLIC,
        ),
    ]
    if owner_path is not None:
        keys = [spki(key.public_key()), *(_read_public_key(path) for path in others)]
        root = OwnerRoot.of([(keys, len(keys) if threshold is None else threshold)])
        files.append((owner_path, root.canonical, _PUBLIC))
    for path, _, _ in files:
        if os.path.lexists(path):
            raise _refused(path, "a file that is there already", "a new file")
    for path, data, mode in files:
        write_new(path, data, mode)


def _read_public_key(path: str) -> bytes:
    try:
        public = load_pem_public_key(read_once(path, MAX_KEY_FILE_SIZE))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused(path, type(error).__name__, "a public key as PEM") from error
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return OwnerKey.parse(der, printable(path)).spki


def _refused(path: str, found: object, expected: str) -> UsageError:
    return UsageError.of(Reason.USAGE, printable(path), found, expected)
