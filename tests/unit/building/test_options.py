from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.options import BuildOptions, keeping_of, request_of_spec, request_without_spec
from gpuyard.building.request import Allowed, BuildRequest, Keeping
from gpuyard.workloads.spec.run_spec import load_spec


def _request(
    folder: Path, text: str, options: BuildOptions | None = None, name: str = "gpuyard.yaml"
) -> BuildRequest:
    spec = load_spec(f"run: x\nimage:\n  base: b\n{text}", "gpuyard.yaml", [], {})
    return request_of_spec(spec, folder / name, options or BuildOptions(), {})


@pytest.mark.parametrize(
    ("repository", "tags"),
    [
        ("reg:5000/me/app:v1", ["reg:5000/me/app:latest", "other/app:v1"]),
        ("reg:5000/me/app", ["reg:5000/me/app:latest", "other/app:v1"]),
        ("me/app:v1", ["docker.io/me/app:latest", "other/app:v1"]),
    ],
)
def test_a_tag_alone_is_of_the_repository(tmp_path: Path, repository: str, tags: list[str]) -> None:
    found = _request(tmp_path, f"  repository: {repository}\n  tags: [latest, other/app:v1]\n")
    assert (found.target, list(found.tags)) == (repository, tags)


def test_tags_of_a_layout(tmp_path: Path) -> None:
    found = _request(tmp_path, "  repository: oci:out:v1\n  tags: [latest, 'oci:copy:v1']\n")
    assert found.targets == (
        f"oci:{tmp_path}/out:v1",
        f"oci:{tmp_path}/out:latest",
        f"oci:{tmp_path}/copy:v1",
    )


def test_a_layout_beside_the_folder_has_a_path_that_runtimes_take(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    found = _request(tmp_path / "app", "  repository: oci:../out:v1\n")
    assert found.target == f"oci:{tmp_path}/out:v1"


def test_flags_take_the_place_of_all_of_them(tmp_path: Path) -> None:
    options = BuildOptions(tags=("mine:1", "mine:2", "mine:1"))
    found = _request(tmp_path, "  repository: r:1\n  tags: [latest]\n  pull_repository: p\n", options)
    assert found.targets == ("mine:1", "mine:2") and found.pull_repository is None
    options = BuildOptions(base="b", tags=("mine:1", "mine:2"))
    assert request_without_spec(options, {}).targets == ("mine:1", "mine:2")


def test_copies_of_a_spec_and_of_flags_add_up(tmp_path: Path) -> None:
    options = BuildOptions(copy_from=("oci:tools:/b",))
    text = "  repository: r:1\n  copy_from: ['oci:tools:v1:/a:/opt/a', 'uv:0.5:/uv']\n"
    found = _request(tmp_path, text, options)
    assert [(str(copied), copied.opened) for copied in found.copies] == [
        ("/a of oci:tools:v1", f"oci:{tmp_path}/tools:v1"),
        ("/uv of uv:0.5", "uv:0.5"),
        ("/b of oci:tools", ""),
    ]


def test_what_may_be_built(tmp_path: Path) -> None:
    found = _request(tmp_path, "  repository: r:1\n")
    assert (found.allowed.project, found.allowed.sources) == (False, ())
    text = "  repository: r:1\n  requirements: r.txt\n  build_project: true\n  build_sources: [a]\n"
    found = _request(tmp_path, text, BuildOptions(allowed=Allowed(sources=("b",))))
    assert (found.allowed.project, found.allowed.sources) == (True, ("b", "a"))
    found = _request(tmp_path, "  repository: r:1\n  requirements: r.txt\n  build_sources: true\n")
    assert found.allowed.sources == (":all:",)
    options = BuildOptions(
        base="b", tags=("r:1",), allowed=Allowed(project=True), requirements=tmp_path / "r.txt"
    )
    assert request_without_spec(options, {}).allowed.project


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(allowed=Allowed(project=True)),
        BuildOptions(allowed=Allowed(sources=(":all:",))),
        BuildOptions(allowed=Allowed(missing_libraries=("libGL.so.1",))),
    ],
)
def test_what_is_said_of_requirements_needs_them(options: BuildOptions) -> None:
    with pytest.raises(errors.UsageError, match="is about what requirements ask for, and there are none"):
        request_without_spec(replace(options, base="b", tags=("r:1",)), {})


def test_a_folder_is_no_distribution(tmp_path: Path) -> None:
    options = BuildOptions(
        only_listed=True, requirements=tmp_path / "r.txt", allowed=Allowed(sources=(str(tmp_path),))
    )
    with pytest.raises(errors.UsageError, match="that is no distribution's name") as caught:
        request_without_spec(options, {})
    assert f"gpuyard build {tmp_path} --build-sources" in caught.value.remedy
    with pytest.raises(errors.UsageError, match=r"--build-sources \./app"):
        request_without_spec(replace(options, allowed=Allowed(sources=("./app",))), {})


def test_variables_and_labels_of_flags_win_over_the_specs(tmp_path: Path) -> None:
    text = "run: x\nenv: {A: {value: '1', bake: true}, B: {value: '1', bake: true}, C: c}\n"
    image = "image: {base: b, repository: r:1, labels: {a: '1', b: '1'}}\n"
    options = BuildOptions(env=("B=2=3", "D="), labels=("b=2", "c="))
    found = request_of_spec(load_spec(text + image, "gpuyard.yaml", [], {}), tmp_path / "x.yaml", options, {})
    assert found.image.env == {"A": "1", "B": "2=3", "D": ""}
    assert found.image.labels == {"a": "1", "b": "2", "c": ""}
    # A spec without an image to build, and --base with -t.
    named = replace(options, base="b", tags=("r:1",))
    found = request_of_spec(load_spec(text, "gpuyard.yaml", [], {}), tmp_path / "x.yaml", named, {})
    assert found.locking.file == tmp_path / "gpuyard.x.lock"
    assert found.image.env == {"A": "1", "B": "2=3", "D": ""}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (BuildOptions(env=("A",)), "--env A has no value"),
        (BuildOptions(env=("1 2=x",)), "can't name an environment variable"),
        (BuildOptions(env=("HOME=/x",)), "'HOME' is the image's own"),
        (BuildOptions(env=("A=${B}",)), "isn't filled in"),
        (BuildOptions(labels=("A",)), "--label A has no value"),
        (BuildOptions(labels=("=x",)), "can't be the name of a label"),
        (BuildOptions(labels=("io.gpuyard.torch=x",)), "gpuyard keeps for itself"),
    ],
)
def test_what_cannot_be_written_into_an_image(options: BuildOptions, why: str) -> None:
    with pytest.raises(errors.UsageError, match=why):
        request_without_spec(replace(options, base="b", tags=("r:1",)), {})


def workdir(text: str) -> str:
    return request_without_spec(BuildOptions(base="b:1", tags=("t:1",), workdir=text), {}).image.workdir


@pytest.mark.parametrize("text", ["/etc", "//etc", "/usr/..//etc", "/", "/.", "/opt/../usr/", "/proc/../sys"])
def test_the_systems_folders_are_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(errors.UsageError, match=r"^the workdir /\w* belongs to the system") as caught:
        workdir(text)
    assert "/workspace" in (caught.value.remedy or "")


def test_a_workdir_is_absolute() -> None:
    with pytest.raises(errors.UsageError, match="must be an absolute path in the image"):
        workdir("code")
    assert workdir("//srv/./code/") == "/srv/code"


def test_a_folder_takes_the_place_of_the_specs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    options = BuildOptions(folder=tmp_path / "other")
    found = _request(tmp_path, "  repository: me/app\nworkdir: nowhere\n", options)
    assert (found.root, found.locking.file) == (tmp_path / "other", tmp_path / "gpuyard.lock")
    assert found.context == tmp_path, "ignore files beside the spec count"
    found = request_without_spec(replace(options, base="b", tags=("t",)), {})
    assert (found.root, found.locking.file) == (tmp_path / "other", None)


@pytest.mark.parametrize("name", ["nowhere", "a.py", "https://github.com/me/app.git"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.py").write_text("")
    with pytest.raises(errors.UsageError, match=f"{Path(name)} isn't a folder here"):
        request_without_spec(BuildOptions(folder=tmp_path / name, base="b", tags=("t",)), {})
    with pytest.raises(errors.UsageError, match=f"{Path(name)} isn't a folder here"):
        _request(tmp_path, f"  repository: me/app\nworkdir: {name}\n")


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("gpuyard.yaml", "gpuyard.lock"),
        ("gpuyard.yml", "gpuyard.lock"),
        ("serve.yaml", "gpuyard.serve.lock"),
        ("train.big.yml", "gpuyard.train.big.lock"),
        ("job", "gpuyard.job.lock"),
    ],
)
def test_each_spec_of_a_folder_has_its_lock(tmp_path: Path, name: str, lock: str) -> None:
    assert _request(tmp_path, "  repository: r:1\n", name=name).locking.file == tmp_path / lock


def test_without_a_base_it_is_said_where_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError) as caught:
        request_without_spec(BuildOptions(folder=tmp_path), {})
    assert caught.value.remedy.endswith("or under image.base in gpuyard.yaml")


@pytest.mark.parametrize("name", ["GPUYARD_LOCKED", "GPUYARD_FROZEN"])
def test_a_lock_that_stays_and_upgrade(tmp_path: Path, name: str) -> None:
    options = BuildOptions(folder=tmp_path, base="b", tags=("t:v1",))
    assert request_without_spec(options, {name: "1"}).locking.keeping.value == name[8:].lower()
    with pytest.raises(errors.UsageError, match=f"--upgrade .*, and --{name[8:].lower()} keeps it"):
        request_without_spec(replace(options, upgrade=True), {name: "1"})


@pytest.mark.parametrize(
    ("environ", "keeping"),
    [
        ({}, Keeping.UP_TO_DATE),
        ({"GPUYARD_LOCKED": "1", "GPUYARD_FROZEN": ""}, Keeping.LOCKED),
        ({"GPUYARD_LOCKED": "0", "GPUYARD_FROZEN": "True"}, Keeping.FROZEN),
    ],
)
def test_what_becomes_of_the_lock_by_the_environment(environ: dict[str, str], keeping: Keeping) -> None:
    assert keeping_of(environ) is keeping


def test_locked_and_frozen_at_once() -> None:
    with pytest.raises(errors.UsageError, match=r"--frozen .* doesn't"):
        keeping_of({"GPUYARD_LOCKED": "1", "GPUYARD_FROZEN": "1"})
