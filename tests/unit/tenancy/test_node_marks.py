from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpuyard.tenancy.node_marks import TAINT, is_marked, mark_patch

GPU = {"hardware-type": "nvidia-gpu", "nvidia.com/gpu.count": "8"}
OTHER = {"key": "team", "value": "a", "effect": "NoSchedule"}


def node(labels: dict[str, str] | None = None, taints: list[Any] | None = None) -> dict[str, Any]:
    metadata = {"name": "a", "resourceVersion": "7", "labels": dict(labels or {}), "annotations": {"x": "y"}}
    return {"metadata": metadata, "spec": {"taints": taints} if taints else {}}


def patched(node: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386, as far as these patches go."""

    def merged(old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return new
        old = dict(old) if isinstance(old, dict) else {}
        for name, value in new.items():
            if value is None:
                old.pop(name, None)
            else:
                old[name] = merged(old.get(name), value)
        return old

    result: dict[str, Any] = merged(node, patch)
    return result


def mark(node: dict[str, Any], labels: dict[str, str], *, taint: bool = False) -> dict[str, Any]:
    return patched(node, mark_patch(node, labels, {}, taint=taint))


def test_marking_twice_changes_nothing() -> None:
    marked = mark(node(), GPU, taint=True)
    assert marked["metadata"]["labels"] == GPU
    assert marked["spec"]["taints"] == [TAINT]
    assert is_marked(marked)
    assert mark_patch(marked, GPU, {}, taint=True) == {}


def test_what_was_there_before_stays() -> None:
    was = node({"hardware-type": "nvidia-gpu", "zone": "a"}, [OTHER])
    marked = mark(was, GPU, taint=True)
    assert marked["spec"]["taints"] == [OTHER, TAINT]
    gone = mark(marked, {})
    assert gone["metadata"]["labels"] == {"hardware-type": "nvidia-gpu", "zone": "a"}
    assert gone["spec"]["taints"] == [OTHER]
    assert gone["metadata"]["annotations"] == {"x": "y"}
    assert not is_marked(gone)


def test_a_taint_of_someone_else_is_left_alone() -> None:
    for value in ("present", "true"):
        theirs = {"key": "nvidia.com/gpu", "value": value, "effect": "NoSchedule"}
        marked = mark(node(taints=[theirs]), GPU, taint=True)
        assert marked["spec"]["taints"] == [theirs]
        assert mark(marked, {})["spec"]["taints"] == [theirs]


def test_labels_that_no_longer_hold_go() -> None:
    marked = mark(node(), {**GPU, "nvidia.com/gpu.family": "hopper"})
    assert mark(marked, GPU)["metadata"]["labels"] == GPU


def test_labels_that_someone_took_off_come_back() -> None:
    marked = mark(node(), GPU)
    del marked["metadata"]["labels"]["hardware-type"]
    assert mark(marked, GPU)["metadata"]["labels"] == GPU


def test_a_taint_is_written_for_the_node_as_it_was_read() -> None:
    assert mark_patch(node(), GPU, {}, taint=True)["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in mark_patch(node(), GPU, {}, taint=False)["metadata"]


names = st.sampled_from(["nvidia.com/a", "nvidia.com/b", "zone", "hardware-type"])
labels = st.dictionaries(names, st.sampled_from(["1", "2"]))


@given(labels, st.lists(st.tuples(labels, st.booleans())), st.booleans())
def test_nothing_is_left_whatever_came_between(
    first: dict[str, str], steps: list[tuple[dict[str, str], bool]], tainted: bool
) -> None:
    was = node(first, [OTHER] if tainted else None)
    now = was
    for wanted, taint in steps:
        now = mark(now, wanted, taint=taint)
        assert wanted.items() <= now["metadata"]["labels"].items()
    end = mark(now, {})
    changed = {name for wanted, _ in steps for name, value in wanted.items() if first.get(name) != value}
    kept = {name: value for name, value in first.items() if name not in changed}
    assert kept.items() <= end["metadata"]["labels"].items() <= first.items()
    assert (end["spec"].get("taints") or []) == ([OTHER] if tainted else [])
    assert not is_marked(end)


def test_reports_come_and_go_without_labels() -> None:
    sick = {"gpuyard.io/gpu-health": "[]"}
    marked = patched(node(), mark_patch(node(), {}, sick, taint=False))
    assert marked["metadata"]["annotations"] == {"x": "y", **sick}
    assert is_marked(marked)
    assert mark_patch(marked, {}, sick, taint=False) == {}
    assert mark(marked, {}) == node()
