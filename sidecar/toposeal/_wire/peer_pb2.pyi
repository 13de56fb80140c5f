from toposeal._wire import evidence_pb2 as _evidence_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Identity(_message.Message):
    __slots__ = ("protocol", "mesh_id", "role", "iid", "ik_spki", "ca_certificate")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MESH_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    IID_FIELD_NUMBER: _ClassVar[int]
    IK_SPKI_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    mesh_id: bytes
    role: str
    iid: bytes
    ik_spki: bytes
    ca_certificate: bytes
    def __init__(self, protocol: _Optional[int] = ..., mesh_id: _Optional[bytes] = ..., role: _Optional[str] = ..., iid: _Optional[bytes] = ..., ik_spki: _Optional[bytes] = ..., ca_certificate: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("id_digest", "topology_version", "topology_digest", "target_epoch", "nonce", "aux_digest", "addresses", "sealed", "previous")
    ID_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    AUX_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    id_digest: bytes
    topology_version: int
    topology_digest: bytes
    target_epoch: int
    nonce: bytes
    aux_digest: bytes
    addresses: _containers.RepeatedScalarFieldContainer[str]
    sealed: bytes
    previous: bytes
    def __init__(self, id_digest: _Optional[bytes] = ..., topology_version: _Optional[int] = ..., topology_digest: _Optional[bytes] = ..., target_epoch: _Optional[int] = ..., nonce: _Optional[bytes] = ..., aux_digest: _Optional[bytes] = ..., addresses: _Optional[_Iterable[str]] = ..., sealed: _Optional[bytes] = ..., previous: _Optional[bytes] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("sender", "receiver", "nonce", "target_epoch")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    sender: bytes
    receiver: bytes
    nonce: bytes
    target_epoch: int
    def __init__(self, sender: _Optional[bytes] = ..., receiver: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., target_epoch: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("sender", "receiver", "nonce", "target_epoch")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_EPOCH_FIELD_NUMBER: _ClassVar[int]
    sender: bytes
    receiver: bytes
    nonce: bytes
    target_epoch: int
    def __init__(self, sender: _Optional[bytes] = ..., receiver: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., target_epoch: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sender", "receiver", "nonce", "answer", "head", "leaving")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    sender: bytes
    receiver: bytes
    nonce: bytes
    answer: bytes
    head: bytes
    leaving: bool
    def __init__(self, sender: _Optional[bytes] = ..., receiver: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., answer: _Optional[bytes] = ..., head: _Optional[bytes] = ..., leaving: bool = ...) -> None: ...

class Want(_message.Message):
    __slots__ = ("sender", "receiver", "digest", "first")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    sender: bytes
    receiver: bytes
    digest: bytes
    first: int
    def __init__(self, sender: _Optional[bytes] = ..., receiver: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., first: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("sender", "epoch", "manifest_digest")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    sender: bytes
    epoch: int
    manifest_digest: bytes
    def __init__(self, sender: _Optional[bytes] = ..., epoch: _Optional[int] = ..., manifest_digest: _Optional[bytes] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("role", "iid", "id_digest", "hello_digest", "ca_digest", "nonce", "aux_digest")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    IID_FIELD_NUMBER: _ClassVar[int]
    ID_DIGEST_FIELD_NUMBER: _ClassVar[int]
    HELLO_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    AUX_DIGEST_FIELD_NUMBER: _ClassVar[int]
    role: str
    iid: bytes
    id_digest: bytes
    hello_digest: bytes
    ca_digest: bytes
    nonce: bytes
    aux_digest: bytes
    def __init__(self, role: _Optional[str] = ..., iid: _Optional[bytes] = ..., id_digest: _Optional[bytes] = ..., hello_digest: _Optional[bytes] = ..., ca_digest: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., aux_digest: _Optional[bytes] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("protocol", "mesh_id", "topology_version", "topology_digest", "lineage", "epoch", "previous", "members")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MESH_ID_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    mesh_id: bytes
    topology_version: int
    topology_digest: bytes
    lineage: bytes
    epoch: int
    previous: bytes
    members: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, protocol: _Optional[int] = ..., mesh_id: _Optional[bytes] = ..., topology_version: _Optional[int] = ..., topology_digest: _Optional[bytes] = ..., lineage: _Optional[bytes] = ..., epoch: _Optional[int] = ..., previous: _Optional[bytes] = ..., members: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Introduction(_message.Message):
    __slots__ = ("identity", "ik_signature", "ca_signature", "join", "hello")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    IK_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CA_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    identity: bytes
    ik_signature: bytes
    ca_signature: bytes
    join: _evidence_pb2.Evidence
    hello: Signed
    def __init__(self, identity: _Optional[bytes] = ..., ik_signature: _Optional[bytes] = ..., ca_signature: _Optional[bytes] = ..., join: _Optional[_Union[_evidence_pb2.Evidence, _Mapping]] = ..., hello: _Optional[_Union[Signed, _Mapping]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("body", "ik_signature", "ca_signature", "evidence")
    BODY_FIELD_NUMBER: _ClassVar[int]
    IK_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CA_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    ik_signature: bytes
    ca_signature: bytes
    evidence: _evidence_pb2.Evidence
    def __init__(self, body: _Optional[bytes] = ..., ik_signature: _Optional[bytes] = ..., ca_signature: _Optional[bytes] = ..., evidence: _Optional[_Union[_evidence_pb2.Evidence, _Mapping]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("manifest", "propose")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    propose: Signed
    def __init__(self, manifest: _Optional[bytes] = ..., propose: _Optional[_Union[Signed, _Mapping]] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("ik_spki", "body", "signature")
    IK_SPKI_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ik_spki: bytes
    body: bytes
    signature: bytes
    def __init__(self, ik_spki: _Optional[bytes] = ..., body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class MemberRecord(_message.Message):
    __slots__ = ("identity", "ik_signature", "ca_signature", "hello", "commit", "gpus")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    IK_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CA_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    identity: bytes
    ik_signature: bytes
    ca_signature: bytes
    hello: Signed
    commit: Commit
    gpus: _containers.RepeatedCompositeFieldContainer[_evidence_pb2.GpuEvidence]
    def __init__(self, identity: _Optional[bytes] = ..., ik_signature: _Optional[bytes] = ..., ca_signature: _Optional[bytes] = ..., hello: _Optional[_Union[Signed, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., gpus: _Optional[_Iterable[_Union[_evidence_pb2.GpuEvidence, _Mapping]]] = ...) -> None: ...

class CertificatePart(_message.Message):
    __slots__ = ("manifest_digest", "manifest", "first", "members", "seals", "leave")
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SEALS_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    manifest_digest: bytes
    manifest: bytes
    first: int
    members: _containers.RepeatedCompositeFieldContainer[MemberRecord]
    seals: _containers.RepeatedScalarFieldContainer[bytes]
    leave: Leave
    def __init__(self, manifest_digest: _Optional[bytes] = ..., manifest: _Optional[bytes] = ..., first: _Optional[int] = ..., members: _Optional[_Iterable[_Union[MemberRecord, _Mapping]]] = ..., seals: _Optional[_Iterable[bytes]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("introduction", "hello", "ping", "pong", "propose", "commit", "sealed", "topology", "heartbeat", "want", "certificate", "release", "leave")
    INTRODUCTION_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    introduction: Introduction
    hello: Signed
    ping: Signed
    pong: Signed
    propose: Signed
    commit: Commit
    sealed: Signed
    topology: bytes
    heartbeat: Signed
    want: Signed
    certificate: CertificatePart
    release: Release
    leave: Leave
    def __init__(self, introduction: _Optional[_Union[Introduction, _Mapping]] = ..., hello: _Optional[_Union[Signed, _Mapping]] = ..., ping: _Optional[_Union[Signed, _Mapping]] = ..., pong: _Optional[_Union[Signed, _Mapping]] = ..., propose: _Optional[_Union[Signed, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., sealed: _Optional[_Union[Signed, _Mapping]] = ..., topology: _Optional[bytes] = ..., heartbeat: _Optional[_Union[Signed, _Mapping]] = ..., want: _Optional[_Union[Signed, _Mapping]] = ..., certificate: _Optional[_Union[CertificatePart, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Asked(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Handed(_message.Message):
    __slots__ = ("topology",)
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    topology: bytes
    def __init__(self, topology: _Optional[bytes] = ...) -> None: ...

class Told(_message.Message):
    __slots__ = ("said",)
    SAID_FIELD_NUMBER: _ClassVar[int]
    said: bytes
    def __init__(self, said: _Optional[bytes] = ...) -> None: ...
