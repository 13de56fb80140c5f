"""What this boot extended into RTMR3: our instance event, among what the measured guest logged of its own."""

from __future__ import annotations

from toposeal.errors import PodError, Reason, ToposealError
from toposeal.evidence.log_reader import read_event_log
from toposeal.evidence.rtmr import instance_event
from toposeal.host.files import read_once
from toposeal.host.rtmr import Rtmr3
from toposeal.limits import MAX_EVENT_LOG_SIZE, MAX_RTMR3_EVENTS
from toposeal.topology.model import InstanceRegister, Role

_RTMR3 = 3


def demands_instance(role: Role) -> bool:
    """Whether some reference of `role` wants the register to name the instance. Only then is it extended:
    a reference with a fixed value would no longer fit."""
    return any(isinstance(reference.rtmr3, InstanceRegister) for reference in role.tdx)


class RuntimeEvents:
    """The events of RTMR3 as verifiers replay them. `log` is a file that the measured guest keeps, of any
    form that `evidence.log_reader` knows, or None: then nobody but us may have extended the register."""

    def __init__(self, register: Rtmr3, log: str | None = None) -> None:
        self._register, self._log = register, log
        self._own: bytes | None = None
        self._before = 0

    def extend(self, iid: bytes) -> None:
        """Extend the register with the event of `iid` (48 bytes), once. Raises PodError."""
        self._before = len(self._logged())
        self._register.extend_once(iid)
        self._own = instance_event(iid)

    def current(self) -> tuple[bytes, ...]:
        """All digests in order, 48 bytes each; empty as long as nothing was extended, and where our event
        is the only one. Raises PodError for a log that cannot be read."""
        if self._own is None or self._log is None:
            return ()
        logged = self._logged()
        events = (*logged[: self._before], self._own, *logged[self._before :])
        if len(events) > MAX_RTMR3_EVENTS:
            raise PodError.of(
                Reason.TOO_LARGE, "event_log", f"{len(events)} events", f"at most {MAX_RTMR3_EVENTS}"
            )
        return events

    def _logged(self) -> tuple[bytes, ...]:
        if self._log is None:
            return ()
        try:
            log = read_event_log(read_once(self._log, MAX_EVENT_LOG_SIZE))
        except ToposealError as error:
            raise PodError(*error.mismatches) from error
        return tuple(event.digest for event in log.events if event.register == _RTMR3)
