from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.wellknown import ANNOTATION_OOM_CAUSE, ANNOTATION_OOM_KILLS
from gpuyard.workloads.memory_kills import oom_advice, oom_cause, oom_kills, oom_reason


def _pod(limit: str, cause: str) -> dict[str, Any]:
    return {
        "metadata": {"annotations": {ANNOTATION_OOM_CAUSE: cause} if cause else {}},
        "spec": {
            "nodeName": "here",
            "containers": [{"resources": {"limits": {"memory": limit} if limit else {}}}],
        },
    }


@pytest.mark.parametrize(
    ("limit", "cause", "reason", "advice"),
    [
        ("2Gi", "limit", "it reached its memory limit of 2Gi", "raise --memory above 2Gi, or use less"),
        (
            "2Gi", "node",
            "the memory of its node, or of a cgroup above its own, was used up; its own limit is 2Gi",
            "run less beside it on node here, or give that more memory",
        ),
        ("2Gi", "", "limit of 2Gi, or the memory of its node", "raise --memory above 2Gi, or use less"),
        ("2Gi", "more", "limit of 2Gi, or the memory of its node", "if its node was full, run"),
        ("", "node", "the memory of its node", "run less beside it on node here"),
        ("", "", "the memory of its node", "run less beside it on node here"),
    ],
)  # fmt: skip
def test_words_say_where_memory_was_short(limit: str, cause: str, reason: str, advice: str) -> None:
    pod = _pod(limit, cause)
    assert reason in oom_reason(pod, oom_cause(pod))
    assert advice in oom_advice(pod)
    assert ("raise --memory" in oom_advice(pod)) is (bool(limit) and cause != "node")


def test_a_count_that_is_none() -> None:
    for count in ("", "no number", "9" * 5000):
        assert oom_kills({"metadata": {"annotations": {ANNOTATION_OOM_KILLS: count}}}) == 0
