from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.local.runtime.podman.layout_links import linked, own_name


@pytest.mark.parametrize("path", ["/srv/images", "/srv/a.b/c_d--e/f__g", "/tmp/pytest-of-root/layout0/"])
def test_podman_makes_a_name_of_most_paths(path: str) -> None:
    assert own_name(f"oci:{path}:V1") == own_name("Registry.example/a:V1") == ""


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/home/Me/images", "images"),
        ("/srv/My Images", "my-images"),
        ("/srv/_out", "out"),
        ("/srv/-", "image"),
        ("/srv/a..b", "a-b"),
        ("/srv/\u00fcber", "ber"),
        (f"/{'a' * 300}", "a" * 200),
    ],
)
def test_others_have_a_name_of_ours(path: str, word: str) -> None:
    name = own_name(f"oci:{path}:v1")
    assert name.rpartition("-")[0] == f"localhost/gpuyard-layouts/{word}"
    assert name == own_name(f"oci:{path}:v2") != own_name(f"oci:{path}X:v1")


def test_a_link_leads_there_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "My Images").mkdir()
    with linked(f"oci:{tmp_path}/My Images:V1") as reference:
        path = Path(reference.removeprefix("oci:").removesuffix(":V1"))
        assert path.resolve() == tmp_path / "My Images"
        assert not own_name(reference)
    assert not path.parent.exists()
