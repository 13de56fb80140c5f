"""The discovery protocol against an Envoy that takes, refuses, repeats itself and connects anew at will."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Discovery, Kind, Offer
from toposeal.errors import PodError

NAMES = {Kind.SECRET: {"id", "ingress"}, Kind.CLUSTER: {"c"}, Kind.LISTENER: {"out", "in"}}
KINDS = st.sampled_from(sorted(Kind))


class Stream(RuleBasedStateMachine):
    """`runs`: what Envoy has acknowledged on this stream, resource by resource."""

    def __init__(self) -> None:
        super().__init__()
        self.discovery, self.version = Discovery(), 0
        self.update: dict[Kind, str] = {}  # what is in every resource
        self.nonces: set[str] = set()
        self.connect()

    def connect(self) -> None:
        self.asked: dict[Kind, set[str]] = {}
        self.waiting: list[wire.DiscoveryResponse] = []
        self.answered: dict[Kind, tuple[str, str]] = {}  # nonce, version
        self.old: list[bytes] = []
        self.runs: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
        self.refused: set[tuple[Kind, str]] = set()
        self.fault = False

    @rule(contents=st.dictionaries(KINDS, st.sampled_from("ab"), min_size=1))
    def offer(self, contents: dict[Kind, str]) -> None:
        """Now and then what Envoy runs already."""
        self.version += 1
        self.update = contents
        self.fault = False
        offers = {
            kind: Offer(
                str(self.version), {name: f"{name} {inside}".encode() for name in sorted(NAMES[kind])}
            )
            for kind, inside in contents.items()
        }
        self.hear(self.discovery.offer({kind: offers[kind] for kind in Kind if kind in offers}))

    @rule()
    def reconnect(self) -> None:
        self.discovery.connected()
        fault = self.fault
        self.connect()
        self.fault = fault

    @rule(kind=KINDS, more=st.sets(st.sampled_from(["id", "ingress", "strange"])))
    def ask(self, kind: Kind, more: set[str]) -> None:
        self.asked[kind] = more if kind is Kind.SECRET else set()
        self.say(kind)

    @precondition(lambda self: self.waiting)
    @rule(takes=st.booleans())
    def answer(self, takes: bool) -> None:
        response = self.waiting.pop(0)
        kind = Kind(response.type_url)
        _, before = self.answered.get(kind, ("", ""))
        self.answered[kind] = response.nonce, response.version_info if takes else before
        newest = all(Kind(other.type_url) is not kind for other in self.waiting)
        if takes and newest:
            for resource in response.resources:
                name, inside = resource.value.decode().split()
                self.runs[kind][name] = inside
        if not takes and newest:
            self.refused.add((kind, response.version_info))
            standing = self.discovery._update.get(kind)  # the offer, or the same one before it
            self.fault = self.fault or (standing is not None and standing.version == response.version_info)
        self.say(kind, words="" if takes else "no")

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """What is said twice says nothing new; what is older than the last response says nothing at all."""
        self.hear(self.discovery.request(data.draw(st.sampled_from(self.old))))

    def say(self, kind: Kind, words: str = "") -> None:
        nonce, version = self.answered.get(kind, ("", ""))
        request = wire.DiscoveryRequest(
            version_info=version,
            resource_names=sorted(self.asked.get(kind, ())),
            type_url=kind.value,
            response_nonce=nonce,
        )
        if words:
            request.error_detail.message = words
        self.old = [request.SerializeToString()]
        self.hear(self.discovery.request(self.old[0]))

    def hear(self, responses: list[bytes]) -> None:
        for data in responses:
            response = wire.DiscoveryResponse.FromString(data)
            kind = Kind(response.type_url)
            assert response.nonce not in self.nonces
            assert (kind, response.version_info) not in self.refused
            assert kind in self.asked
            self.nonces.add(response.nonce)
            for earlier in list(Kind)[: list(Kind).index(kind)]:
                assert not [r for r in self.waiting if r.type_url == earlier.value]
            self.waiting.append(response)

    @invariant()
    def a_verdict_is_envoys_own(self) -> None:
        try:
            taken = self.discovery.is_taken()
        except PodError:
            assert self.fault
            return
        assert not self.fault
        if taken:
            for kind, inside in self.update.items():
                assert self.runs[kind] == dict.fromkeys(NAMES[kind], inside)


Stream.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStream = Stream.TestCase
