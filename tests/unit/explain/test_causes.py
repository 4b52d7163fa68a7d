from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.missing_objects import KIND_TO_LIST
from gpuyard.explain.placement import Blocker
from gpuyard.workloads.outcome import Reason

#: Reasons of a run that hasn't failed; those of one that has come after them.
NOT_FAILED = {
    Reason.SUSPENDED, Reason.WAITING_FOR_POD, Reason.WAITING_FOR_SCHEDULER, Reason.UNSCHEDULABLE,
    Reason.SCHEDULING_GATED, Reason.BACK_OFF, Reason.STARTING, Reason.IMAGE_PULL, Reason.RUNNING,
    Reason.STOPPING, Reason.COMPLETED, Reason.STOPPED_BY_USER,
}  # fmt: skip


def test_every_way_to_fail_and_every_blocker_has_a_cause() -> None:
    assert {reason.name for reason in set(Reason) - NOT_FAILED} <= set(Cause.__members__)
    assert {blocker.value for blocker in Blocker} - {"volumes"} <= set(Cause)


def test_names_of_secrets_are_not_listed() -> None:
    # A list of Secrets brings their values along.
    assert Cause.NO_SECRET not in KIND_TO_LIST
