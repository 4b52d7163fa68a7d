from gpuyard.agent.options.device_lists import CDI_LISTS, PLAIN, DeviceList, suitable_lists


def test_names_by_mounts_are_given_where_the_runtime_takes_those() -> None:
    assert suitable_lists(has_cdi=False, mounts_name_devices=False) == PLAIN.lists
    assert suitable_lists(has_cdi=True, mounts_name_devices=True) == {
        DeviceList.VOLUME_MOUNTS,
        DeviceList.DEVICE_SPECS,
        DeviceList.CDI_CRI,
    }


def test_without_a_spec_nothing_needs_one() -> None:
    assert not PLAIN.lists & CDI_LISTS
