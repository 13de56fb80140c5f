"""Numbers out of /proc: of this process, so that they are known to be real."""

from __future__ import annotations

import os
import time

from toposeal_lab.measure import Usage, is_python, machine, median, usage


def test_a_process_that_works_is_seen_to_work() -> None:
    before = usage([os.getpid()])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after = usage([os.getpid()])
    assert 0.05 <= after.cpu_seconds - before.cpu_seconds < 1
    assert 5 < after.rss_mib < 2000


def test_processes_add_up_and_ended_ones_count_nothing() -> None:
    own = os.getpid()
    assert usage([]) == usage([2**22 + 1]) == Usage(0, 0)
    assert usage([own, own]).rss_mib > 1.5 * usage([own]).rss_mib


def test_an_interpreter_is_told_from_other_programs() -> None:
    assert is_python(os.getpid())
    assert not is_python(2**22 + 1)


def test_the_median_is_rounded() -> None:
    assert median([3.00006, 1, 2]) == 2
    assert median([0.123456]) == 0.1235


def test_the_machine_says_what_it_is() -> None:
    assert machine()["cores"] == os.cpu_count()
