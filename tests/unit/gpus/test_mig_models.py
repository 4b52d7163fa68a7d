from gpuyard.gpus.catalogue import find_model
from gpuyard.gpus.mig_models import mig_geometry, mig_models
from gpuyard.gpus.mig_profiles import MigEngines, MigGeometry, Placement


def geometry_of(model: str) -> MigGeometry:
    geometry = mig_geometry(model)
    assert geometry is not None
    return geometry


def test_as_many_of_each_as_its_count_says() -> None:
    for model in mig_models():
        geometry = geometry_of(model)
        for profile in geometry.profiles:
            placed: list[Placement] = []
            for new in profile.placements:
                if not geometry.obstacle(placed, new):
                    placed.append(new)
            assert len(placed) == profile.most, (model, profile.name)


def test_every_model_that_can_be_split_is_in_the_catalogue_and_has_room_for_its_largest_part() -> None:
    for name in mig_models():
        model = find_model(name)
        assert model is not None
        assert model.name == name
        assert 0.96 * model.memory_mib < geometry_of(name).profiles[0].memory_mib <= model.memory_mib, name


def test_what_a_real_h100_lists() -> None:
    # nvidia-smi mig -lgip, driver 570.
    geometry = geometry_of("H100")
    assert geometry.names == "1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb"
    three = geometry.find("3g.40gb")
    assert three is not None
    assert (three.memory_mib, three.multiprocessors, three.slices, three.size) == (40448, 60, 3, 4)
    assert three.engines == MigEngines(copy=3, decoder=3, jpeg=3)
    assert [str(each) for each in three.placements] == ["3g.40gb@0", "3g.40gb@4"]


def test_gpus_without_mig() -> None:
    assert mig_geometry("L4") is None
    assert mig_geometry("") is None
