from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tee(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEE_UNSPECIFIED: _ClassVar[Tee]
    TDX: _ClassVar[Tee]
    SEV_SNP: _ClassVar[Tee]
TEE_UNSPECIFIED: Tee
TDX: Tee
SEV_SNP: Tee

class Evidence(_message.Message):
    __slots__ = ("tee", "quote", "endorsement", "endorsement_ca", "rtmr3_events", "gpus")
    TEE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    ENDORSEMENT_FIELD_NUMBER: _ClassVar[int]
    ENDORSEMENT_CA_FIELD_NUMBER: _ClassVar[int]
    RTMR3_EVENTS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    tee: Tee
    quote: bytes
    endorsement: bytes
    endorsement_ca: bytes
    rtmr3_events: _containers.RepeatedScalarFieldContainer[bytes]
    gpus: _containers.RepeatedCompositeFieldContainer[GpuEvidence]
    def __init__(self, tee: _Optional[_Union[Tee, str]] = ..., quote: _Optional[bytes] = ..., endorsement: _Optional[bytes] = ..., endorsement_ca: _Optional[bytes] = ..., rtmr3_events: _Optional[_Iterable[bytes]] = ..., gpus: _Optional[_Iterable[_Union[GpuEvidence, _Mapping]]] = ...) -> None: ...

class GpuEvidence(_message.Message):
    __slots__ = ("report", "chain")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    report: bytes
    chain: bytes
    def __init__(self, report: _Optional[bytes] = ..., chain: _Optional[bytes] = ...) -> None: ...
