from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.missing_objects import KIND_TO_LIST
from gpuyard.explain.placement import Blocker
from gpuyard.workloads.outcome import Reason

#: Reasons of a run that has failed.
FAILED = {
    Reason.EXIT_CODE, Reason.SIGNAL, Reason.OOM_KILLED, Reason.START_ERROR, Reason.DEADLINE_EXCEEDED,
    Reason.EVICTED, Reason.PREEMPTED, Reason.DRAINED, Reason.NODE_REBOOTED, Reason.NODE_LOST,
    Reason.JOB_FAILED,
}  # fmt: skip


def test_every_way_to_fail_and_every_blocker_has_a_cause() -> None:
    assert {reason.name for reason in FAILED} <= set(Cause.__members__)
    assert {blocker.value for blocker in Blocker} - {"volumes"} <= set(Cause)


def test_names_of_secrets_are_not_listed() -> None:
    # A list of Secrets brings their values along.
    assert Cause.NO_SECRET not in KIND_TO_LIST
