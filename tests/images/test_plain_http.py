"""A registry that isn't this machine by its name: without TLS only when the user says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.cli.options.registry import registry_environ
from gpuyard.cli.output.notices import print_notice
from gpuyard.runs.image_fit import check_before_submit, read_run_image, unfit_lines
from tests.images.conftest import Site
from tests.unit.runs.test_image_fit import job_of, node


@pytest.fixture
def elsewhere(site: Site) -> str:
    """The site's registry by an address that isn't loopback by definition, and leads there all the same."""
    return f"0.0.0.0:{site.registry.rpartition(':')[2]}"


@pytest.fixture
def image(site: Site, elsewhere: str, app: Path) -> str:
    """Built there; what it needs of a GPU comes from its requirements' names alone."""
    name = f"{elsewhere}/me/elsewhere:v1"
    words = ("build", "--base", site.base, "-t", name)
    refused = site.gpuyard(*words, cwd=app)
    assert refused.code == 1 and elsewhere in refused.err, refused
    return site.ok(*words, "--plain-http", elsewhere, cwd=app).out.strip()


def test_image_check_and_show_take_the_option(site: Site, elsewhere: str, image: str) -> None:
    for words in (
        ("image", "check", image, "--gpu", "H100", "--driver", "580.95.05"),
        ("image", "show", image),
    ):
        refused = site.gpuyard(*words)
        assert refused.code == 1 and elsewhere in refused.err, refused
        site.ok(*words, "--plain-http", elsewhere)
        site.ok(*words, GPUYARD_PLAIN_HTTP=f"other:5000 {elsewhere}")


async def test_the_check_before_a_submit_does_too(
    image: str, elsewhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node("a", "580.95.05")]
    job = job_of(image)
    check_before_submit(job, await read_run_image(job, {}, print_notice), nodes, print_notice, refuse=True)
    assert "can't look whether the image fits" in capsys.readouterr().err
    environ = registry_environ((elsewhere,), None)
    found = check_before_submit(
        job, await read_run_image(job, environ, print_notice), nodes, print_notice, refuse=True
    )
    assert capsys.readouterr().err == ""
    # Only who has read the image knows of its launcher.
    assert found.entrypoint[1] == "/opt/gpuyard/launcher.py"
    assert await unfit_lines(job, nodes, environ) == []
