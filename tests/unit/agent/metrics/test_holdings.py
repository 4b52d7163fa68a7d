from gpuyard.agent.metrics.holdings import Holding, Holdings, known


def held(device: str, pod: str = "p", container: str = "c", namespace: str = "n") -> Holding:
    return Holding(namespace, pod, container, "nvidia.com/gpu", device)


def test_a_pod_owns_what_it_has_for_itself() -> None:
    holdings = Holdings((held("a"), held("b::1"), held("c", container="init"), held("c", container="main")))
    assert holdings.owner("a") == {"container": "c", "namespace": "n", "pod": "p"}
    assert holdings.owner("b") == {}, "another may get a share of it at any time"
    assert holdings.owner("c") == {"container": "", "namespace": "n", "pod": "p"}
    assert holdings.owner("d") == {}


def test_nobody_owns_what_two_pods_have() -> None:
    for other in (held("a", pod="q"), held("a", namespace="m")):
        assert Holdings((held("a"), other)).owner("a") == {}


def test_other_devices_are_not_ours() -> None:
    ours = known([held("a"), held("nic-0"), held("a::1")], ["a"])
    assert [each.device_id for each in ours.held] == ["a", "a::1"]
