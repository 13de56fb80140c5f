from toposeal._wire import evidence_pb2 as _evidence_pb2
from toposeal._wire import peer_pb2 as _peer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Live(_message.Message):
    __slots__ = ("iid", "challenge", "evidence", "leaf", "leaves", "path")
    IID_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    iid: bytes
    challenge: bytes
    evidence: _evidence_pb2.Evidence
    leaf: int
    leaves: int
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, iid: _Optional[bytes] = ..., challenge: _Optional[bytes] = ..., evidence: _Optional[_Union[_evidence_pb2.Evidence, _Mapping]] = ..., leaf: _Optional[int] = ..., leaves: _Optional[int] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("manifests",)
    MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    manifests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, manifests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AttestationDocument(_message.Message):
    __slots__ = ("topology", "manifest", "members", "live", "collateral", "crls")
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    COLLATERAL_FIELD_NUMBER: _ClassVar[int]
    CRLS_FIELD_NUMBER: _ClassVar[int]
    topology: bytes
    manifest: bytes
    members: _containers.RepeatedCompositeFieldContainer[_peer_pb2.MemberRecord]
    live: Live
    collateral: _containers.RepeatedScalarFieldContainer[bytes]
    crls: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, topology: _Optional[bytes] = ..., manifest: _Optional[bytes] = ..., members: _Optional[_Iterable[_Union[_peer_pb2.MemberRecord, _Mapping]]] = ..., live: _Optional[_Union[Live, _Mapping]] = ..., collateral: _Optional[_Iterable[bytes]] = ..., crls: _Optional[_Iterable[bytes]] = ...) -> None: ...
