from gpuyard.devices.amd.kfd import KfdGpu


def test_place_and_target() -> None:
    gpu = KfdGpu(1, {"location_id": 0x050B, "domain": 1, "gfx_target_version": 90010}, 0, ())
    assert (gpu.pci_bus_id, gpu.target) == ("0001:05:01.3", "gfx90a")
    assert KfdGpu(1, {"gfx_target_version": 120001}, 0, ()).target == "gfx1201"
    assert KfdGpu(0, {}, 0, ()).target == ""
