from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "image", "path", "destination"),
    [
        ("uv:/uv", "uv", "/uv", "/uv"),
        (
            "ghcr.io/astral-sh/uv:0.5:/uv:/usr/local/bin/",
            "ghcr.io/astral-sh/uv:0.5",
            "/uv",
            "/usr/local/bin/",
        ),
        ("localhost:5000/a/b:v1:/opt//x/../tool/", "localhost:5000/a/b:v1", "/opt/tool", "/opt/tool"),
        (f"a/b@{DIGEST}:/x:/y", f"a/b@{DIGEST}", "/x", "/y"),
        ("oci:/images/tools:v1:/x", "oci:/images/tools:v1", "/x", "/x"),
        ("oci-archive:tools.tar:/x:/", "oci-archive:tools.tar", "/x", "/"),
    ],
)
def test_an_image_and_a_path_are_told_apart(text: str, image: str, path: str, destination: str) -> None:
    assert CopiedPath.parse(text) == CopiedPath(image, path, destination)


@pytest.mark.parametrize("text", ["", "uv", "uv:tag", "uv:/", ":/x", "uv:/..", "oci:/x", "/x:/"])
def test_what_names_no_path_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="no file or folder"):
        CopiedPath.parse(text)


@pytest.mark.parametrize(
    "text", ["a:/x:/opt/gpuyard", "a:/x:/opt/gpuyard/venv/bin/", "a:/opt/../opt/gpuyard"]
)
def test_gpuyard_s_own_folder_is_left_alone(text: str) -> None:
    with pytest.raises(errors.UsageError, match="gpuyard's own"):
        CopiedPath.parse(text)


@pytest.mark.parametrize(
    ("destination", "file", "folder"),
    [("/opt/a", "opt/a", "opt/a"), ("/opt/a/", "opt/a/x", "opt/a"), ("/", "x", "")],
)
def test_a_slash_at_the_end_means_a_folder_to_put_a_file_into(
    destination: str, file: str, folder: str
) -> None:
    copied = CopiedPath("a", "/b/x", destination)
    assert (copied.place(is_folder=False), copied.place(is_folder=True)) == (file, folder)
