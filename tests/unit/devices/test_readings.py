from gpuyard.devices.readings import Reading, XidCounts


def test_xids_are_counted_by_gpu_and_the_last_is_the_last() -> None:
    counts = XidCounts()
    for uuid, xid in (("a", 79), ("a", 31), ("b", 48), ("a", 79)):
        counts.add(uuid, xid)
    found = counts.put_into({"a": Reading(temperature_c=40), "c": Reading()})
    assert found == {
        "a": Reading(temperature_c=40, xids={31: 1, 79: 2}, last_xid=79),
        "b": Reading(xids={48: 1}, last_xid=48),
        "c": Reading(),
    }
