"""Other encodings of the same protobuf message: what a lenient parser would take for the same (P11)."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES = 0, 1, 2
Field = tuple[int, int, bytes]  # number, wire type, value: a varint's bytes or the bytes themselves


def fields(data: bytes) -> list[Field]:
    """The fields of one message as they lie there."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == VARINT:
            start = at
            _, at = _varint(data, at)
            found.append((key >> 3, VARINT, data[start:at]))
        else:
            assert key & 7 == BYTES
            length, at = _varint(data, at)
            found.append((key >> 3, BYTES, data[at : at + length]))
            at += length
    return found


def joined(parts: list[Field], pad: int | None = None) -> bytes:
    """The message of `parts`; the key of part `pad` takes one byte more than it needs."""
    data = b""
    for index, (number, kind, value) in enumerate(parts):
        data += _encoded(number << 3 | kind, index == pad)
        data += value if kind == VARINT else _encoded(len(value), False) + value
    return data


def variants(data: bytes, repeated: int = 0) -> Iterator[tuple[str, bytes]]:
    """Every one parses, in a lenient parser, to the same values as `data`; field `repeated` is a list."""
    parts = fields(data)
    yield "unknown varint", data + _encoded(100 << 3, False) + b"\x01"
    yield "unknown bytes first", _encoded(1000 << 3 | BYTES, False) + b"\x03abc" + data
    yield "unknown group", data + _encoded(200 << 3 | 3, False) + _encoded(200 << 3 | 4, False)
    for index in range(len(parts)):
        yield f"long key {index}", joined(parts, pad=index)
        number, kind, value = parts[index]
        if number != repeated:
            yield f"twice {index}", joined([*parts[: index + 1], *parts[index:]])
        if kind == VARINT:
            longer = value[:-1] + bytes([value[-1] | 0x80, 0])
            yield (
                f"long varint {index}",
                joined([*parts[:index], (number, kind, longer), *parts[index + 1 :]]),
            )
        else:
            length = _encoded(len(value), True)
            head, tail = joined(parts[:index]), joined(parts[index + 1 :])
            yield f"long length {index}", head + _encoded(number << 3 | kind, False) + length + value + tail
    for index in range(len(parts) - 1):
        swapped = [*parts[:index], parts[index + 1], parts[index], *parts[index + 2 :]]
        if parts[index][0] != parts[index + 1][0]:
            yield f"swapped {index}", joined(swapped)


def explicit_default(data: bytes, number: int, kind: int) -> bytes:
    """`data` with the absent field `number` written out with its default."""
    parts = [*fields(data), (number, kind, b"\0" if kind == VARINT else b"")]
    return joined(sorted(parts, key=lambda part: part[0]))


def within(data: bytes, path: tuple[int, ...], inner: bytes) -> bytes:
    """`data` with the bytes at field path `path` replaced, all lengths made right again."""
    if not path:
        return inner
    parts = fields(data)
    index = next(i for i, part in enumerate(parts) if part[0] == path[0])
    number, kind, value = parts[index]
    parts[index] = (number, kind, within(value, path[1:], inner))
    return joined(parts)


def at(data: bytes, path: tuple[int, ...]) -> bytes:
    """The bytes at field path `path`."""
    for number in path:
        data = next(value for found, _, value in fields(data) if found == number)
    return data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7


def _encoded(value: int, longer: bool) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + (bytes([value | 0x80, 0]) if longer else bytes([value]))
