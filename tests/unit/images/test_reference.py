from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.errors import ImageReferenceError
from gpuyard.images.oci import Digest
from gpuyard.images.reference import ImageReference

_DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("pytorch/pytorch", "docker.io/pytorch/pytorch:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest"),
        ("localhost/team/train", "localhost/team/train:latest"),
        ("localhost:5000/train:v1", "localhost:5000/train:v1"),
        ("[::1]:5000/train", "[::1]:5000/train:latest"),
        ("nvcr.io/nvidia/pytorch:24.06-py3", "nvcr.io/nvidia/pytorch:24.06-py3"),
        ("Registry/train", "Registry/train:latest"),
        ("a.b/c__d/e-f.g--h:_X.y-Z", "a.b/c__d/e-f.g--h:_X.y-Z"),
        (f"a.b/c@{_DIGEST}", f"a.b/c@{_DIGEST}"),
        (f"a.b/c:v1@{_DIGEST}", f"a.b/c:v1@{_DIGEST}"),
    ],
)
def test_docker_names_are_written_out(text: str, written: str) -> None:
    reference = ImageReference.parse(text)
    assert str(reference) == written
    assert ImageReference.parse(written) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "repository ''"),
        ("Debian", "must be lower-case"),
        ("a.b/Team/x", "must be lower-case"),
        ("a.b/c:", "tag ''"),
        ("a.b/c:-x", "tag '-x'"),
        ("a.b/c:" + "x" * 129, "1 to 128"),
        ("a.b/c@sha256:12", "64 lower-case hex"),
        ("a.b/c@", "64 lower-case hex"),
        (f"a.b/c@{_DIGEST.upper()}", "64 lower-case hex"),
        ("a.b//c", "repository '/c'"),
        ("a.b/../c", r"repository '\.\./c'"),
        ("-a.b/c", "host name"),
        ("a.b:x/c", "host name"),
        ("user@a.b/c", "digest"),
        ("https://a.b/c", "repository|host name"),
        ("a.b/c d", "repository"),
        ("a.b/c\n", "repository"),
        ("a.b/" + "x" * 252, "longer than 255"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    with pytest.raises(ImageReferenceError, match=why) as caught:
        ImageReference.parse(text)
    assert "REGISTRY/REPOSITORY:TAG" in caught.value.remedy


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_reference_error(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except ImageReferenceError:
        return
    assert ImageReference.parse(str(reference)) == reference


def test_a_digest_wins_over_a_tag() -> None:
    reference = ImageReference.parse("a.b/c:v1")
    assert reference.target == "v1"
    pinned = reference.pinned(Digest(_DIGEST))
    assert pinned.target == _DIGEST
    assert str(pinned) == f"a.b/c@{_DIGEST}"
