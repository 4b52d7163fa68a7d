import pytest

from gpuyard.devices.amd.products import _PRODUCTS, find_family, find_product
from gpuyard.gpus.catalogue import find_model


@pytest.mark.parametrize(
    ("device_id", "revision", "product"),
    [
        ("744c", "c8", "AMD Radeon RX 7900 XTX"),
        ("744c", "cc", "AMD Radeon RX 7900 XT"),
        ("744c", "01", "AMD GPU 744c"),
        ("74a1", "00", "AMD Instinct MI300X"),
        ("13c0", "c1", "AMD GPU 13c0"),
    ],
)
def test_product_by_the_ids_of_pci(device_id: str, revision: str, product: str) -> None:
    assert find_product(device_id, revision) == product


@pytest.mark.parametrize("product", sorted(set(_PRODUCTS.values())))
def test_the_catalogue_knows_every_product(product: str) -> None:
    model = find_model(product)
    assert model is not None
    assert model.compute_capability is None


@pytest.mark.parametrize(
    ("target", "family"),
    [("gfx942", "AI"), ("gfx1036", "GC_10_3_6"), ("gfx1030", "NV"), ("gfx1100", "GC_11_0_0"), ("", "")],
)
def test_family(target: str, family: str) -> None:
    assert find_family(target) == family
