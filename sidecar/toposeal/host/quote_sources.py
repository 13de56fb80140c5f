"""Whom a pod asks for its quotes: one, by name, and never another because it happens to be there."""

from __future__ import annotations

from toposeal.errors import Reason, UsageError
from toposeal.host.coco_agent import coco_agent
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.dstack_agent import dstack_agent
from toposeal.host.tee_report import QuoteSource

CONFIGFS_TSM, COCO_AA, DSTACK = "configfs-tsm", "coco-aa", "dstack"
NAMES = (CONFIGFS_TSM, COCO_AA, DSTACK)


def check_name(name: str) -> str:
    """Raises UsageError unless it is one of NAMES."""
    if name not in NAMES:
        raise UsageError.of(Reason.USAGE, "quote_source", name, f"one of {', '.join(NAMES)}")
    return name


def quote_source(name: str, report_dir: str) -> QuoteSource:
    """The source of that name; nothing is asked of it yet. Raises UsageError for another name."""
    if check_name(name) == CONFIGFS_TSM:
        return ConfigfsTsm(report_dir)
    return coco_agent() if name == COCO_AA else dstack_agent()
