from pathlib import Path

from gpuyard.agent.plugin.sockets import OwnSockets


def served(sockets: OwnSockets) -> Path:
    socket = sockets.new()
    socket.touch()
    return socket


def test_a_later_one_is_known_by_its_name(tmp_path: Path) -> None:
    first, second = OwnSockets(tmp_path), OwnSockets(tmp_path)
    one = served(first)
    assert not first.is_superseded()
    other = served(second)
    assert first.is_superseded() and not second.is_superseded()
    second.remove_earlier()
    assert not one.exists() and other.exists()
    second.remove(other)
    assert not first.is_superseded()


def test_the_last_socket_of_all_says_which_agent_serves(tmp_path: Path) -> None:
    first, second = OwnSockets(tmp_path), OwnSockets(tmp_path)
    early, ours, late = served(first), [served(second), served(second)], served(first)
    assert second.is_superseded() and not first.is_superseded()
    first.remove_earlier()
    assert early.exists() and late.exists() and not any(each.exists() for each in ours)
    # What it served last is gone, and so is nothing of which it is the successor.
    first.remove(late)
    assert not first.is_superseded()


def test_one_that_never_served_is_survived_by_any_and_superseded_by_none(tmp_path: Path) -> None:
    never = OwnSockets(tmp_path)
    assert not never.is_survived()
    served(OwnSockets(tmp_path))
    assert never.is_survived() and not never.is_superseded()


def test_no_name_comes_twice_and_a_clock_that_was_set_back_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / f"gpuyard-{1 << 62:016x}.sock").touch()
    sockets = OwnSockets(tmp_path)
    names = []
    for _ in range(5):
        names.append(served(sockets))
        sockets.remove(names[-1])
    assert sorted(set(names)) == names
    assert not sockets.is_superseded()


def test_others_files_stay(tmp_path: Path) -> None:
    others = ("kubelet.sock", "nvidia-gpu.sock", "gpuyard-odd.sock.d", "gpuyard-notes.txt")
    for name in others:
        (tmp_path / name).touch()
    sockets = OwnSockets(tmp_path)
    own = served(sockets)
    sockets.remove_earlier()
    assert {path.name for path in tmp_path.iterdir()} == {*others, own.name}


def test_a_name_fits_into_a_path_of_a_socket() -> None:
    # local.paths leaves 32 bytes for it.
    assert len(OwnSockets(Path("/nowhere")).new().name) <= 32


def test_while_the_folder_cant_be_read_it_is_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    first, second = OwnSockets(folder), OwnSockets(folder)
    served(first)
    served(second)
    assert first.is_superseded() and not second.is_superseded()
    folder.rename(tmp_path / "away")
    assert first.is_superseded() and not second.is_superseded()
