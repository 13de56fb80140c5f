"""Envoy's discovery protocol, state of the world: what to send it, and what it has taken. No IO.

Each kind of resource has a subscription of its own on the one stream. A response is answered by its nonce:
with its version, then Envoy runs it; or with Envoy's words, then what it ran before stays in force, and that
version is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.envoy_json import CLUSTER_TYPE, LISTENER_TYPE, SECRET_TYPE
from toposeal.errors import PodError, Reason
from toposeal.limits import MAX_DISCOVERY_NAMES, MAX_DISCOVERY_REQUEST

_SAID = 150  # characters of Envoy's words in a refusal
_TELLING = 16  # characters of a secret that say something of it; names and field names are shorter
_REMEMBERED = 64  # refused versions of one kind; none is ever offered twice


class Kind(StrEnum):
    """In the order of an update: nothing may name a secret or a cluster that is not there yet."""

    SECRET = SECRET_TYPE
    CLUSTER = CLUSTER_TYPE
    LISTENER = LISTENER_TYPE


@dataclass(frozen=True)
class Offer:
    """All resources of one kind, at least one: name to encoded message. The version means exactly these."""

    version: str
    resources: Mapping[str, bytes] = field(repr=False)


Update = Mapping[Kind, Offer]


@dataclass(frozen=True)
class _Response:
    offer: Offer
    names: frozenset[str]  # of the resources in it


@dataclass
class _Subscription:
    """What one stream has heard and said of one kind."""

    kind: Kind
    offered: Offer | None = None  # what Envoy is to run
    names: frozenset[str] | None = None  # what it asks for, where it asks by name; None before it asks
    given: _Response | None = None  # the last response
    held: _Response | None = None  # the last one that was acknowledged
    nonce: str = ""  # of the last response
    waiting: bool = False  # for the answer to it
    refused: dict[str, str] = field(default_factory=dict)  # version -> Envoy's words

    def takes(self, offer: Offer) -> bool:
        """Whether Envoy has acknowledged the whole of `offer`."""
        held = self.held
        return held is not None and held.offer is offer and held.names.issuperset(offer.resources)

    def running(self, offer: Offer) -> Offer:
        """What Envoy runs already and has been given nothing after, where that is the same as `offer`; else
        `offer`.
        """
        held = self.held
        if (
            held is None
            or held is not self.given
            or self.waiting
            or not held.names.issuperset(offer.resources)
        ):
            return offer
        return held.offer if held.offer.resources == offer.resources else offer

    def gave(self, offer: Offer) -> bool:
        return self.given is not None and self.given.offer is offer

    def due(self) -> _Response | None:
        """What Envoy asks for and has not been given. It may hold a part of what it refused as a whole."""
        if self.offered is None or self.names is None or self.offered.version in self.refused:
            return None
        names = frozenset(self.offered.resources)
        if self.kind is Kind.SECRET:
            names &= self.names
        if not names or (self.given and self.given.offer is self.offered and names <= self.given.names):
            return None
        return _Response(self.offered, names)

    def give(self, response: _Response, nonce: str) -> None:
        self.given, self.nonce, self.waiting = response, nonce, True

    def hear(self, request: wire.DiscoveryRequest) -> Offer | None:
        """The offer that `request` refuses, if it refuses one. With another nonce than the last it is older
        than our response, whose own answer is still to come and names what Envoy asks for then.
        """
        if request.response_nonce != self.nonce:
            return None
        self.names = frozenset(request.resource_names)
        refused = None
        if self.given is not None and self.waiting:
            if request.HasField("error_detail"):
                refused = self._refuse(self.given, request.error_detail.message)
            elif request.version_info == self.given.offer.version:
                self.held, self.waiting = self.given, False
        if self.kind is Kind.SECRET:
            self._drop(self.names)
        return refused

    def forget(self) -> None:
        """Nothing of this kind is offered, and nothing that was is kept."""
        self.offered = self.given = self.held = None
        self.waiting = False

    def withdraw(self) -> None:
        """What Envoy is to run is what it runs."""
        self.offered = self.held.offer if self.held else None

    def _drop(self, asked: frozenset[str]) -> None:
        """What Envoy asks for no more it has no more. Where that is all of the last response, it says neither
        yes nor no to it.
        """
        if self.given is not None and not self.given.names <= asked:
            self.given = replace(self.given, names=self.given.names & asked)
            self.waiting = self.waiting and bool(self.given.names)

    def _refuse(self, given: _Response, words: str) -> Offer:
        self.waiting, self.given = False, self.held
        secret = b"".join(given.offer.resources.values()) if self.kind is Kind.SECRET else b""
        self.refused[given.offer.version] = _harmless(said(words), secret)
        if len(self.refused) > _REMEMBERED:
            del self.refused[next(iter(self.refused))]
        if self.offered is given.offer:
            self.withdraw()
        return given.offer


class Discovery:
    """One Envoy's subscriptions. Everything returns the responses to send, encoded, in order."""

    def __init__(self) -> None:
        self._subscriptions = {kind: _Subscription(kind) for kind in Kind}
        self._update: Update = {}
        self._refused: str | None = None
        self._responses = 0

    def offer(self, update: Update) -> list[bytes]:
        """What Envoy is to run from now on, of the kinds in `update`; the others stay. What it runs already
        is not sent again: it takes a fifth of a second to compare a thousand chains.
        """
        self._update = {kind: self._subscriptions[kind].running(offer) for kind, offer in update.items()}
        self._refused = None
        for kind, offer in self._update.items():
            subscription = self._subscriptions[kind]
            subscription.offered = offer
            if offer.version in subscription.refused:
                self._refuse(subscription.refused[offer.version])
        return self._due()

    def offer_alone(self, update: Update) -> list[bytes]:
        """As `offer`; what was offered of other kinds is forgotten, also if Envoy still asks for it."""
        for kind, subscription in self._subscriptions.items():
            if kind not in update:
                subscription.forget()
        return self.offer(update)

    def connected(self) -> None:
        """A new stream takes the place of the last one: on it nothing is asked for or acknowledged yet."""
        self._subscriptions = {
            kind: _Subscription(kind, s.offered) for kind, s in self._subscriptions.items()
        }

    def request(self, data: bytes) -> list[bytes]:
        """Raises PodError(ENVOY_FAILED) for what no Envoy of ours asks; the stream is to end then."""
        kind, request = _parsed(data)
        subscription = self._subscriptions[kind]
        offer = subscription.hear(request)
        if offer is not None and kind in self._update and self._update[kind].version == offer.version:
            self._refuse(subscription.refused[offer.version])
        return self._due()

    def is_taken(self) -> bool:
        """Whether Envoy has acknowledged all of the last update, where there is one. Raises
        PodError(ENVOY_REJECTED), in Envoy's own words, once it has refused any of it.
        """
        if self._refused is not None:
            raise PodError.of(Reason.ENVOY_REJECTED, "envoy", self._refused, "an update that it takes")
        taken = [self._subscriptions[kind].takes(offer) for kind, offer in self._update.items()]
        return bool(taken) and all(taken)

    def _refuse(self, words: str) -> None:
        """What of the update has not been sent never is: it may name what was refused."""
        self._refused = words
        for kind, offer in self._update.items():
            subscription = self._subscriptions[kind]
            if subscription.offered is offer and not subscription.gave(offer):
                subscription.withdraw()

    def _due(self) -> list[bytes]:
        """In the order of kinds; one that is not answered yet holds back those after it."""
        responses = []
        for kind, subscription in self._subscriptions.items():
            response = subscription.due()
            if response is not None:
                self._responses += 1
                subscription.give(response, str(self._responses))
                responses.append(_encoded(kind, response, subscription.nonce))
            if subscription.waiting:
                break
        return responses


def said(words: str) -> str:
    """Envoy's words on one line; of a long one both ends."""
    text = " ".join(words.split())
    return text if len(text) <= _SAID else f"{text[:40]} ... {text[-_SAID + 45 :]}"


def _harmless(words: str, secret: bytes) -> str:
    """`words`, unless a part of `secret` is among them (F4)."""
    parts = (words[at : at + _TELLING].encode() for at in range(len(words) - _TELLING + 1))
    return "what it was given" if any(part in secret for part in parts) else words


def _parsed(data: bytes) -> tuple[Kind, wire.DiscoveryRequest]:
    if len(data) > MAX_DISCOVERY_REQUEST:
        raise _refusal(f"{len(data)} bytes", f"at most {MAX_DISCOVERY_REQUEST}")
    request = wire.DiscoveryRequest()
    try:
        request.ParseFromString(data)
        kind = Kind(request.type_url)
    except (DecodeError, ValueError) as error:
        raise _refusal(type(error).__name__, "a request for a kind of ours") from None
    most = MAX_DISCOVERY_NAMES if kind is Kind.SECRET else 0
    if len(request.resource_names) > most:
        raise _refusal(f"{len(request.resource_names)} names", f"at most {most}")
    return kind, request


def _refusal(found: str, expected: str) -> PodError:
    return PodError.of(Reason.ENVOY_FAILED, "envoy.discovery", found, expected)


def _encoded(kind: Kind, response: _Response, nonce: str) -> bytes:
    offer = response.offer
    resources = [
        Any(type_url=kind.value, value=data)
        for name, data in offer.resources.items()
        if name in response.names
    ]
    message = wire.DiscoveryResponse(
        version_info=offer.version, resources=resources, type_url=kind.value, nonce=nonce
    )
    return message.SerializeToString(deterministic=True)
