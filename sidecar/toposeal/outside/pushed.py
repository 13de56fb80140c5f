"""What a member says of a topology that it was given: its word and no proof, which `verify` has. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import NetworkError, Reason, TopologyError, ToposealError
from toposeal.limits import MAX_VERSION
from toposeal.topology.strict_json import parse

PUSH_TYPE = "application/vnd.toposeal.push.v1+json"
MAX_PUSH_ANSWER = 1024  # bytes


@dataclass(frozen=True)
class Pushed:
    """`is_news`: the member had an older one until now."""

    is_news: bool
    version: int

    def as_json(self) -> dict[str, object]:
        return {"result": "accepted" if self.is_news else "known", "version": self.version}


def read_pushed(body: bytes) -> Pushed:
    """Raises the refusal that `body` names, with its reason, or NetworkError for what is no answer."""
    try:
        said = parse(body, "http.body", MAX_PUSH_ANSWER)
    except ToposealError as error:
        raise _no_answer(body) from error
    match said:
        case {"result": "accepted" | "known" as result, "version": int(version), **rest} if not rest:
            if 1 <= version <= MAX_VERSION:
                return Pushed(result == "accepted", version)
        case {"refused": str(reason), **rest} if not rest and reason in set(Reason):
            raise _refusal(Reason(reason))
    raise _no_answer(body)


def _refusal(reason: Reason) -> ToposealError:
    kind = NetworkError if reason in (Reason.NOT_ACTIVE, Reason.RATE_LIMITED) else TopologyError
    return kind.of(reason, "topology", "refused by the member", "one that it takes")


def _no_answer(body: bytes) -> NetworkError:
    return NetworkError.of(Reason.NETWORK, "http.body", body[:64], "a member's answer to a topology")
