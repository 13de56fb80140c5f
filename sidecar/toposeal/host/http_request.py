"""How long a request says that its body is, of a head that DocumentServer has read. No IO.

RFC 9112, 6: what two readers could measure differently is refused, and any body that is not simply counted.
"""

from __future__ import annotations

import re
from http import HTTPStatus

_HEAD = re.compile(rb"POST [!-~]{1,512} HTTP/1\.1\r\n(?:[!-9;-~]{1,64}: ?[ -~]{0,1024}\r\n){1,32}\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})(?=\r\n)", re.IGNORECASE)
_LENGTHS = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_CODED = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)


def body_size(head: bytes, limit: int) -> int | HTTPStatus:
    """Bytes of the body of a POST, at most `limit`; else the status of the refusal."""
    lengths = _LENGTH.findall(head)
    if _HEAD.fullmatch(head) is None or len(_LENGTHS.findall(head)) > 1 or _CODED.search(head):
        return HTTPStatus.BAD_REQUEST
    if not lengths:
        return HTTPStatus.LENGTH_REQUIRED
    return int(lengths[0]) if int(lengths[0]) <= limit else HTTPStatus.REQUEST_ENTITY_TOO_LARGE
