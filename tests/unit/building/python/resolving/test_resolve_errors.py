from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.python.resolving.resolve_errors import unresolved
from tests.unit.building.python.conftest import Index, use_environ
from tests.unit.images.conftest import MakeWheel, Workshop


@pytest.mark.parametrize(
    ("url", "requirement", "words"),
    [
        ("http://me:secret@127.0.0.1:1/simple", "demo", r"can't reach .* 127\.0\.0\.1:1 \(Connection"),
        ("http://me:secret@nowhere.invalid/simple", "demo", r"can't reach .* nowhere\.invalid \(failed to"),
        ("http://me:wrong@{host}/simple", "demo", r"{host} wants another login \(401 Unauthorized\)"),
        ("http://me:secret@{host}/simple", "nothing-here", "the package index has no nothing-here, so there"),
        ("http://me:secret@{host}/simple", "demo>7", r"no wheels meet requirements\.txt for Python 3"),
        ("http://me:secret@{host}/broken", "demo", r"{host} answers 500"),
    ],
)  # fmt: skip
async def test_why_there_are_no_wheels(
    workshop: Workshop, index: Index, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch,
    url: str, requirement: str, words: str,
) -> None:  # fmt: skip
    make_wheel("demo")
    (workshop.folder / "uv.toml").unlink()
    host = f"127.0.0.1:{index.server_port}"
    use_environ(workshop, monkeypatch, UV_HTTP_RETRIES="0", UV_DEFAULT_INDEX=url.format(host=host))
    with pytest.raises(errors.BuildError, match=words.format(host=host)) as caught:
        await workshop.build(requirements=workshop.require(requirement))
    assert caught.value.remedy
    for hidden in ("secret", "wrong", "gpuyard-"):
        assert hidden not in str(caught.value)


async def test_our_own_files_are_not_named(workshop: Workshop, make_wheel: MakeWheel) -> None:
    """Also when what the lock names can't be found any more."""
    demo = make_wheel("demo")
    make_wheel("other")
    requirements = workshop.require("demo")
    await workshop.build(requirements=requirements)
    lock = workshop.app / "gpuyard.lock"
    lock.write_text(lock.read_text().replace(', path = "../wheels/demo-1.0-py3-none-any.whl"', ""))
    for kept in (workshop.folder / "cache/wheels").iterdir():
        kept.unlink()
    demo.unlink()
    with pytest.raises(errors.BuildError, match="has no demo") as caught:
        await workshop.build(requirements=requirements, target=f"oci:{workshop.folder / 'other'}:v1")
    assert "pins" not in str(caught.value) and "gpuyard-" not in str(caught.value)


def test_the_base_s_version_is_said_of_what_uv_names() -> None:
    error = unresolved(
        "error: No solution found\n  cause: Because only numpy<2 is available", "r.txt",
        {"numpy": "1.24", "num": "1"},
    )  # fmt: skip
    assert "(the base brings numpy 1.24)" in error.message


def test_a_proxy_on_the_way_to_an_index_is_named() -> None:
    said = "error: Failed to fetch: `https://index.invalid/simple/x/`\n  cause: Connection refused"
    environ = {"HTTPS_PROXY": "http://me:secret@proxy:3128"}
    error = unresolved(said, "requirements.txt", {}, environ)
    assert "index.invalid through the proxy http://…@proxy:3128 (Connection refused" in error.message
    assert "proxy" not in unresolved(said, "requirements.txt", {}, environ | {"NO_PROXY": ".invalid"}).message
