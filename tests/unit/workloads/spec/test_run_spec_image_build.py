from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.workloads.spec.run_spec import ImageBuild, RunSpec, load_spec
from tests.unit.workloads.flags import flags_of


def load(text: str, **flags: object) -> RunSpec:
    return load_spec(text, "gpuyard.yaml", flags_of(**flags), {})


def test_a_mapping_is_an_image_to_build() -> None:
    spec = load(
        "run: x\nworkdir: src\nimage:\n  base: b\n  repository: r:1\n  requirements: q.txt\n"
        "  platforms: [linux/amd64, linux/arm64/v8]\n  allow_secrets: [.env]\n  pull_repository: p\n"
        "  tags: [latest, other/r:2]\n  allow_missing_libraries: [libGL.so.1]\n"
        "  copy_from: ['uv:0.5:/uv:/bin/']\n  build_project: true\n  build_sources: [flash-attn]\n"
    )
    assert spec.image is None
    platforms = ("linux/amd64", "linux/arm64/v8")
    assert spec.build == ImageBuild(
        "b",
        "r:1",
        "q.txt",
        platforms,
        (".env",),
        "p",
        "x",
        tags=("latest", "other/r:2"),
        allow_missing_libraries=("libGL.so.1",),
        copy_from=("uv:0.5:/uv:/bin/",),
        build_project=True,
        build_sources=("flash-attn",),
    )


@pytest.mark.parametrize(
    ("written", "found"), [("true", True), ("false", False), ("[a]", ("a",)), ("null", ())]
)
def test_sources_are_named_or_all(written: str, found: object) -> None:
    build = load(f"run: x\nimage: {{base: b, repository: r, build_sources: {written}}}\n").build
    assert build is not None and build.build_sources == found
    with pytest.raises(errors.SpecError, match="neither true nor false"):
        load("run: x\nimage: {base: b, repository: r, build_sources: a}\n")


@pytest.mark.parametrize(
    ("written", "own"),
    [
        ("run: x -y\n", "x -y"),
        ("run: [x, -y]\n", ("x", "-y")),
        ("", None),
        ("run: null\n", None),
        ("run: {}\n", None),
    ],
)
def test_the_image_starts_what_the_file_says_whatever_the_flags_say(
    written: str, own: str | tuple[str, ...] | None
) -> None:
    spec = load(written + "image: {base: b, repository: r}\n", run=("other", "words"))
    assert spec.build is not None
    assert (spec.run, spec.build.run) == (("other", "words"), own)


def test_a_name_is_an_image_that_is_there() -> None:
    assert (load("run: x\nimage: a:1\n").image, load("run: x\nimage: a:1\n").build) == ("a:1", None)


def test_a_flag_takes_the_place_of_the_whole_build() -> None:
    spec = load("run: x\nimage: {base: b, repository: r}\n", image="other:1")
    assert (spec.image, spec.build) == ("other:1", None)


def test_null_leaves_a_key_out() -> None:
    build = load("run: x\nimage: {base: b, repository: r, requirements: null}\n").build
    assert build is not None and build.requirements is None


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(errors.SpecError) as caught:
        load("run: x\nimage:\n  bse: b\n  requirements: ''\n  platforms: [here]\n")
    found = {problem.path: problem for problem in caught.value.problems}
    assert set(found) == {
        "image.base", "image.repository", "image.bse", "image.requirements", "image.platforms[0]",
    }  # fmt: skip
    assert "did you mean 'base'" in found["image.bse"].message
    assert found["image.platforms[0]"].line == 5


def test_an_empty_list_of_platforms() -> None:
    with pytest.raises(errors.SpecError, match=r"image\.platforms"):
        load("run: x\nimage: {base: b, repository: r, platforms: []}\n")


def test_a_relative_workdir_needs_no_path_in_the_image_when_it_is_built() -> None:
    assert load("run: x\nworkdir: src\nimage: {base: b, repository: r}\n").workdir == "src"
    with pytest.raises(errors.SpecError, match="absolute path"):
        load("run: x\nworkdir: src\nimage: there:1\n")


_BUILD = "image: {base: b, repository: r}\n"


def test_what_is_baked_is_the_images_and_not_the_runs() -> None:
    text = "run: x\nenv:\n  A: {value: '1', bake: true}\n  B: {value: 'b', bake: false}\n  C: c\n"
    spec = load(text + _BUILD)
    assert (spec.baked, spec.env) == ({"A": "1"}, {"B": "b", "C": "c"})
    # Nothing is built: then it is the run's.
    for other in ("", "image: there:1\n"):
        spec = load(text + other)
        assert (spec.baked, spec.env) == ({"A": "1"}, {"A": "1", "B": "b", "C": "c"})


def test_a_flag_is_the_runs_and_the_image_stays_as_it_is() -> None:
    spec = load("run: x\nenv: {A: {value: '1', bake: true}}\n" + _BUILD, env=("A=2",))
    assert (spec.baked, spec.env) == ({"A": "1"}, {"A": "2"})


@pytest.mark.parametrize(
    ("env", "path", "why"),
    [
        ("{HOME: {value: /x, bake: true}}", "env.HOME", "is the image's own"),
        ("{VIRTUAL_ENV: {value: /x, bake: true}}", "env.VIRTUAL_ENV", "is the image's own"),
        ("{PATH: {value: /x, bake: true}}", "env.PATH", "write for example /opt/tool/bin:${PATH}"),
        ("{A: {value: 'x${USER}', bake: true}}", "env.A", "'${USER}' isn't filled in"),
        ("{A: {value: 'x${', bake: true}}", "env.A", "isn't filled in"),
        ("{A: {bake: true}}", "env.A.value", "write the value"),
        ("{A: {value: x, bake: yes}}", "env.A.bake", "neither true nor false"),
        ("{A: {value: x, bak: true}}", "env.A.bak", "did you mean 'bake'?"),
        ("{A: {value: [x], bake: true}}", "env.A.value", "must be text"),
        (
            "{CUDA_VISIBLE_DEVICES: {value: '0', bake: true}}",
            "env.CUDA_VISIBLE_DEVICES",
            "allocation of GPUs",
        ),
    ],
)
def test_what_cannot_be_baked(env: str, path: str, why: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        load(f"run: x\nenv: {env}\n" + _BUILD)
    [problem] = caught.value.problems
    assert problem.path == path and why in problem.message


def test_a_baked_value_may_name_the_bases_own() -> None:
    spec = load("run: x\nenv: {PATH: {value: '/opt/x:${PATH}', bake: true}}\n" + _BUILD)
    assert spec.baked == {"PATH": "/opt/x:${PATH}"} and spec.env == {}


def test_labels() -> None:
    spec = load("run: x\nimage: {base: b, repository: r, labels: {a.b/c: 'd e', E: ''}}\n")
    assert spec.build is not None and spec.build.labels == {"a.b/c": "d e", "E": ""}
    for name, why in (
        ("io.gpuyard.x", "keeps for itself"),
        ("'a b'", "can't be the name"),
        ("''", "can't be"),
    ):
        with pytest.raises(errors.SpecError, match=why):
            load(f"run: x\nimage: {{base: b, repository: r, labels: {{{name}: x}}}}\n")
