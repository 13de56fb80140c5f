from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tee(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEE_UNSPECIFIED: _ClassVar[Tee]
    TDX: _ClassVar[Tee]
TEE_UNSPECIFIED: Tee
TDX: Tee

class Evidence(_message.Message):
    __slots__ = ("tee", "quote")
    TEE_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    tee: Tee
    quote: bytes
    def __init__(self, tee: _Optional[_Union[Tee, str]] = ..., quote: _Optional[bytes] = ...) -> None: ...
