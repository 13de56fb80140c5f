"""What Envoy writes of requests, as lines on its standard output for the daemon. No IO."""

from __future__ import annotations

from collections.abc import Mapping

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, ResponseFlagFilter
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.google.protobuf import Any, Struct, Value

from toposeal.dataplane.refusals import FIELDS as REFUSAL_FIELDS
from toposeal.dataplane.requests import CALLER
from toposeal.dataplane.requests import FIELDS as REQUEST_FIELDS

# The other end did not answer or prove who it is, there is none, or the client's share is used up.
_NOT_LED_ON = ["UF", "UH", "UO"]


def failures_log() -> AccessLog:
    """Requests that could not be led on, in the words in which connections of bytes are refused: the
    listener's own log sees connections, and of one that carries requests it sees none fail.
    """
    log = _log(REFUSAL_FIELDS)
    log.filter = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=list(_NOT_LED_ON)))
    return log


def requests_log(caller: str) -> AccessLog:
    """Every request, as one of `caller`."""
    return _log({**REQUEST_FIELDS, CALLER: caller})


def _log(fields: Mapping[str, str]) -> AccessLog:
    said = Struct(fields={name: Value(string_value=what) for name, what in fields.items()})
    stdout = StdoutAccessLog(log_format=SubstitutionFormatString(json_format=said))
    return AccessLog(name="envoy.access_loggers.stdout", typed_config=Any.pack(stdout))
