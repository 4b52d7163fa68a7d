from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.images.cache import Cache, cache_folder


def test_where_it_is() -> None:
    assert cache_folder({"GPUYARD_HOME": "/g", "XDG_CACHE_HOME": "/x"}) == Path("/g/cache")
    assert cache_folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/gpuyard")
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/gpuyard")


def test_a_file_is_there_when_it_is_whole_and_nobody_elses(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    with cache.new_file("kind", "name") as file:
        file.write(b"x")
        assert not cache.path("kind", "name").exists()
    assert cache.path("kind", "name").read_bytes() == b"x"
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.path("kind", "name").stat().st_mode) == 0o600


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError), cache.new_file("kind", "name"):
        raise ZeroDivisionError
    assert list((tmp_path / "kind").iterdir()) == []


def test_an_entry_that_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write("kind", "a", {"b": 1})
    assert cache.read("kind", "a") == {"b": 1}
    cache.path("kind", "a").write_bytes(b'{"b": ')
    assert cache.read("kind", "a") is None
    assert cache.read("kind", "nothing") is None


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    full = pytest.raises(errors.CacheError, match="the disk is full")
    with full as caught, cache.reporting(), Path("/dev/full").open("wb") as file:
        file.write(b"x" * 100_000)
    assert "set XDG_CACHE_HOME to a folder on a larger disk" in caught.value.remedy


def test_advice_is_about_what_has_an_effect(tmp_path: Path) -> None:
    """GPUYARD_HOME is before XDG_CACHE_HOME, and moves the yard with it."""
    environ = {"GPUYARD_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "unused")}
    (tmp_path / "home").write_text("")
    cache = Cache.from_environ(environ)
    with pytest.raises(errors.CacheError) as caught:
        cache.write("kind", "a", {})
    assert "XDG_CACHE_HOME" not in caught.value.remedy
    assert f"make {cache.folder} a link to a folder" in caught.value.remedy
    (tmp_path / "home").unlink()
    for folder in ("home", "large"):
        (tmp_path / folder).mkdir()
    cache.folder.symlink_to(tmp_path / "large")
    cache.write("kind", "a", {"b": 1})
    assert (tmp_path / "large" / "kind" / "a").exists() and cache.read("kind", "a") == {"b": 1}


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.CacheError, match="can't write"):
        Cache(tmp_path / "file" / "cache").write("kind", "a", {})


def test_what_nobody_reads_for_a_month_goes_once_a_day(tmp_path: Path) -> None:
    cache, now_s, day_s = Cache(tmp_path), 2e9, 86400
    kinds = {"old": "apt-indexes", "new": "apt-indexes", "fetched": "debs"}
    places = {name: cache.path(kind, name) for name, kind in kinds.items()}

    def put(**ages_days: int) -> None:
        for name, days in ages_days.items():
            cache.write(places[name].parent.name, name, {})
            os.utime(places[name], (now_s - days * day_s, now_s - 90 * day_s))

    def left() -> list[str]:
        return [name for name, place in places.items() if place.exists()]

    put(old=31, new=28, fetched=31)
    cache.sweep(["debs"], now_s)
    assert left() == ["new", "fetched"]
    put(old=31)
    cache.sweep(["debs"], now_s + day_s - 1)
    assert left() == ["old", "new", "fetched"]
    cache.sweep(["debs"], now_s + day_s + 1)
    assert left() == ["new", "fetched"]


def test_a_clock_that_was_ahead_and_what_is_no_folder_put_off_no_sweep(tmp_path: Path) -> None:
    cache, now_s, day_s = Cache(tmp_path), 2e9, 86400
    (tmp_path / "a-file").write_text("")
    for kind in ("a-kind", "b-kind"):
        cache.write(kind, "old", {})
        os.utime(cache.path(kind, "old"), (now_s - 31 * day_s,) * 2)
    (tmp_path / "swept").mkdir()
    os.utime(tmp_path / "swept", (now_s + 1000 * day_s,) * 2)
    cache.sweep(now_s=now_s)
    assert [kind for kind in ("a-kind", "b-kind") if cache.path(kind, "old").exists()] == []
