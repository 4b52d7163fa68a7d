from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.building.python.index.settings import PackageIndex, UvSettings, read_settings, with_keyring
from gpuyard.building.python.resolving.requirements_file import Requirements


def read(tmp_path: Path, **environ: str) -> UvSettings:
    return read_settings({"HOME": str(tmp_path / "home"), **environ}, tmp_path / "project" / "app")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def urls(settings: UvSettings) -> list[str]:
    return [index.url for index in settings.indexes if "example" in index.url]


def test_the_nearest_file_counts_then_the_user_s(tmp_path: Path) -> None:
    write(tmp_path / "uv.toml", 'index-url = "https://far.example"\n')
    write(tmp_path / "project/pyproject.toml", '[tool.uv]\nextra-index-url = ["https://project.example"]\n')
    write(tmp_path / "project/app/pyproject.toml", '[project]\nname = "without-uv"\n')
    write(tmp_path / "home/.config/uv/uv.toml", '[[index]]\nurl = "https://user.example"\n')
    assert urls(read(tmp_path)) == ["https://project.example", "https://user.example"]
    write(tmp_path / "project/uv.toml", '[pip]\nfind-links = ["https://links.example/", "dist"]\n')
    assert urls(read(tmp_path)) == ["https://links.example/", "https://user.example"]
    write(tmp_path / "other/uv/uv.toml", 'index-url = "https://other.example"\n')
    found = read(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "other"))
    assert urls(found) == ["https://links.example/", "https://other.example"]
    write(tmp_path / "alone.toml", 'index-url = "https://alone.example"\n')
    assert urls(read(tmp_path, UV_CONFIG_FILE=str(tmp_path / "alone.toml"))) == ["https://alone.example"]
    assert urls(read(tmp_path, UV_NO_CONFIG="1")) == []


def test_variables_name_indexes_and_log_in_to_them(tmp_path: Path) -> None:
    write(
        tmp_path / "project/uv.toml",
        '[[index]]\nname = "our.own"\nurl = "https://own.example/simple"\nauthenticate = "always"\n',
    )
    found = read(
        tmp_path,
        UV_DEFAULT_INDEX="first=https://me:a@first.example/simple",
        UV_INDEX="https://second.example  third=https://third.example",
        UV_FIND_LINKS="dist,https://links.example",
        UV_INDEX_OUR_OWN_USERNAME="an@n",
        UV_INDEX_OUR_OWN_PASSWORD="p:w",
        UV_INDEX_THIRD_PASSWORD="token",
    )
    assert [index for index in found.indexes if "example" in index.url] == [
        PackageIndex("https://me:a@first.example/simple"),
        PackageIndex("https://second.example"),
        PackageIndex("https://:token@third.example"),
        PackageIndex("https://links.example"),
        PackageIndex("https://an%40n:p%3Aw@own.example/simple", "always"),
    ]


def test_options_of_requirements_and_the_project_beside_them(tmp_path: Path) -> None:
    write(tmp_path / "r.txt", "-i https://${HOST}/simple\n")
    environ = {"HOME": str(tmp_path), "HOST": "me:pw@file.example"}
    found = read_settings(environ, tmp_path / "lock", Requirements(tmp_path / "r.txt", environ))
    assert urls(found) == ["https://me:pw@file.example/simple"]
    write(tmp_path / "p/pyproject.toml", '[[tool.uv.index]]\nurl = "https://locked.example"\n')
    found = read_settings(environ, tmp_path / "lock", Requirements(tmp_path / "p/uv.lock", environ))
    assert urls(found) == ["https://locked.example"]


def test_keyring_hosts_and_overrides(tmp_path: Path) -> None:
    assert not read(tmp_path).keyring
    write(
        tmp_path / "project/uv.toml",
        'keyring-provider = "subprocess"\nallow-insecure-host = ["https://a.example", "b.example:8443"]\n'
        "override-dependencies = [\"Typing_Extensions>=4 ; python_version < '4'\"]\n"
        'exclude-dependencies = ["opencv-python"]\n',
    )
    found = read(tmp_path, UV_INSECURE_HOST="c.example, d.example")
    assert not found.keyring
    assert set(found.insecure_hosts) == {"a.example", "b.example:8443", "c.example", "d.example"}
    assert found.overridden == {"typing-extensions", "opencv-python"}
    write(tmp_path / "home/.config/uv/uv.toml", 'keyring-provider = "subprocess"\n')
    found = read(tmp_path)
    assert with_keyring({}, found) == {"UV_KEYRING_PROVIDER": "subprocess"}
    assert not read(tmp_path, UV_KEYRING_PROVIDER="disabled").keyring


@pytest.mark.parametrize("text", ["not toml [", "index = 3\n[pip]\nfind-links = 4\n", "tool = 1\n"])
def test_what_uv_itself_refuses_is_left_to_it(tmp_path: Path, text: str) -> None:
    write(tmp_path / "project/uv.toml", text)
    write(tmp_path / "project/app/pyproject.toml", text)
    assert urls(read(tmp_path)) == []
