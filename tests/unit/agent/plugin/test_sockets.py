from pathlib import Path

from gpuyard.agent.plugin.sockets import OwnSockets


def serve(sockets: OwnSockets) -> str:
    sockets.renew()
    sockets.path.touch()
    return sockets.path.name


def test_a_later_one_is_known_by_its_name(tmp_path: Path) -> None:
    first, second = OwnSockets(tmp_path), OwnSockets(tmp_path)
    serve(first)
    assert not first.is_superseded()
    serve(second)
    assert first.is_superseded() and not second.is_superseded()
    second.remove_earlier()
    assert not first.path.exists() and second.path.exists()
    second.path.unlink()
    assert not first.is_superseded()


def test_one_that_never_served_is_survived_by_any_and_superseded_by_none(tmp_path: Path) -> None:
    never = OwnSockets(tmp_path)
    assert not never.is_survived()
    serve(OwnSockets(tmp_path))
    assert never.is_survived() and not never.is_superseded()


def test_no_name_comes_twice_and_a_clock_that_was_set_back_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / f"gpuyard-{1 << 62:016x}.sock").touch()
    sockets = OwnSockets(tmp_path)
    names = [serve(sockets) for _ in range(5)]
    assert sorted(set(names)) == names
    assert not sockets.is_superseded()


def test_others_files_stay(tmp_path: Path) -> None:
    others = ("kubelet.sock", "nvidia-gpu.sock", "gpuyard-odd.sock.d", "gpuyard-notes.txt")
    for name in others:
        (tmp_path / name).touch()
    sockets = OwnSockets(tmp_path)
    serve(sockets)
    sockets.remove_earlier()
    assert {path.name for path in tmp_path.iterdir()} == {*others, sockets.path.name}


def test_a_name_fits_into_a_path_of_a_socket() -> None:
    # local.paths leaves 32 bytes for it.
    sockets = OwnSockets(Path("/nowhere"))
    sockets.renew()
    assert len(sockets.path.name) <= 32
