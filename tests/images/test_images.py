from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.images.conftest import Containers, Site
from tests.registry.conftest import docker_registry
from tests.unit.building.test_revision import git_commit
from tests.unit.images.conftest import MakeWheel, make_wheel

__all__ = ["make_wheel"]


_SEE = r"""
import demo, getpass, json, os, sys, tempfile, yaml
open("written-here", "w").close()
open("outputs/written", "w").close()
open(b"latin-\xe9.txt", "a").close()
os.rename("train.py", "moved.py")
os.rename("moved.py", "train.py")
open(os.path.expanduser("~/written-at-home"), "w").close()
print(json.dumps({
    "demo": demo.__file__, "cached": os.path.exists(demo.__cached__), "yaml": yaml.__file__,
    "user": getpass.getuser(), "uid": os.getuid(), "cwd": os.getcwd(), "tmp": tempfile.gettempdir(),
    "files": sorted(os.listdir(".")), "prefix": sys.prefix,
}))
"""


def offer(tmp_path: Path, app: Path) -> None:
    (app / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path / "wheels"}"]\n')


def test_an_image_with_wheels_runs(
    site: Site, containers: Containers, app: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    make_wheel(
        "demo",
        files={"demo/__init__.py": "def main():\n    print('hello, script')\n"},
        entry_points="[console_scripts]\nsay-hello = demo:main\n",
    )
    offer(tmp_path, app)
    (app / "outputs").mkdir()
    (app / "latin-\udce9.txt").write_text("shipped")
    (app / "requirements.txt").write_text("demo\npyyaml\n")
    image = f"{site.registry}/me/wheels:v1"
    words = ("build", "--base", site.base, "--requirements", "requirements.txt", "-t", image, "-o", "json")
    result = site.ok(*words, cwd=app).json
    assert [layer["title"] for layer in result["platforms"]["linux/amd64"]["layers"]] == [
        "demo 1.0",
        "application",
    ]

    seen = json.loads(containers.python(result["reference"], _SEE))
    assert seen["demo"].startswith("/opt/gpuyard/venv/lib/python3.11/site-packages/")
    assert seen["cached"] is True
    assert seen["yaml"].startswith("/usr/lib/python3/dist-packages/")
    assert (seen["user"], seen["uid"], seen["cwd"], seen["tmp"]) == ("gpuyard", 1000, "/workspace", "/tmp")
    assert {"train.py", "requirements.txt", "written-here"} <= set(seen["files"])
    assert seen["prefix"] == "/opt/gpuyard/venv"
    assert containers.start(result["reference"], "say-hello") == "hello, script\n"
    assert containers.start(result["reference"], "python", "train.py") == "hello from the image\n"


def test_a_project_of_ones_own_is_imported_from_everywhere(
    site: Site, containers: Containers, app: Path
) -> None:
    """With its console script on PATH; an edit changes the application's layer alone."""
    (app / "src/my_app").mkdir(parents=True)
    code = app / "src/my_app/__init__.py"
    code.write_text("import importlib.metadata as m\n\ndef main():\n    print('one', m.version('my-app'))\n")
    (app / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "my-app"\nversion = "1.0"\n[project.scripts]\nmy-train = "my_app:main"\n'
    )
    image = f"{site.registry}/me/own:v1"
    words = ("build", "--base", site.base, "--requirements", "pyproject.toml", "-t", image, "-o", "json")
    first = site.ok(*words, cwd=app).json
    assert containers.start(first["reference"], "my-train") == "one 1.0\n"
    edit = (
        "import os, pathlib, subprocess, my_app; os.chdir('/')\n"
        "file = pathlib.Path(my_app.__file__); file.write_text(file.read_text().replace('one', 'edited'))\n"
        "print(file, subprocess.check_output('my-train', text=True), end='')"
    )
    assert containers.python(first["reference"], edit) == "/workspace/src/my_app/__init__.py edited 1.0\n"
    code.write_text(code.read_text().replace("one", "two"))
    second = site.ok(*words, cwd=app).json
    assert containers.start(second["reference"], "my-train") == "two 1.0\n"


def test_other_tools_read_it_and_build_on_it(site: Site, containers: Containers, app: Path) -> None:
    image = f"{site.registry}/me/plain:v1"
    site.ok("build", "--base", site.base, "-t", image, cwd=app)
    copied = containers.folder / "copied"
    containers.run("skopeo", "copy", "--src-tls-verify=false", f"docker://{image}", f"oci:{copied}:v1")
    name = containers.run("buildah", "from", "--tls-verify=false", image).strip()
    containers.run("buildah", "config", "--label", "more=1", name)
    containers.run("buildah", "commit", "-q", name, f"oci:{containers.folder / 'committed'}:v1")
    containers.run("buildah", "rm", name)
    shown = site.ok("image", "show", f"oci:{containers.folder / 'committed'}:v1", "-o", "json").json
    assert shown["platforms"][0]["python"] == "3.11"
    assert shown["platforms"][0]["layers"][1]["holds"] == "gpuyard build: application"


def test_an_image_starts_what_its_spec_says_in_its_bases_environment(
    site: Site, containers: Containers, app: Path, debian_tar: Path, tmp_path: Path
) -> None:
    base, image = f"{site.registry}/base/debian:greeting", f"{site.registry}/me/started:v1"
    site.ok("image", "import", debian_tar, "-t", base, "--env", "GREETING=a=b", "--env", "EMPTY=")
    (app / "hello.py").write_text("import os, sys; print(sys.argv[1:], os.environ['GREETING'])\n")
    (app / "gpuyard.yaml").write_text("run: hello.py --epochs 3\nenv: {GREETING: of the run}\n")
    site.ok("build", "-f", "gpuyard.yaml", "--base", base, "-t", image, cwd=app)
    assert containers.start(image) == "['--epochs', '3'] a=b\n"
    refused = site.gpuyard("image", "import", debian_tar, "-t", base, "--env", "NAME")
    assert (refused.code, "write --env NAME=VALUE" in refused.err) == (2, True)


def test_a_wrapper_of_the_base_and_what_is_baked_are_there_when_the_command_starts(
    site: Site, containers: Containers, app: Path, tmp_path: Path
) -> None:
    wrapper = tmp_path / "nvidia_entrypoint.sh"
    wrapper.write_text('#!/bin/sh\necho checks\nexport FOUND_BY=$TOOL/lib\nexec "$@"\n')
    wrapper.chmod(0o755)
    name = containers.run("buildah", "from", "--tls-verify=false", site.base).strip()
    containers.run("buildah", "copy", "-q", name, str(wrapper), "/opt/nvidia/nvidia_entrypoint.sh")
    containers.run("buildah", "config", "--entrypoint", '["/opt/nvidia/nvidia_entrypoint.sh"]', name)
    base = f"oci:{containers.folder / 'wrapped'}:v1"
    containers.run("buildah", "commit", "-q", name, base)
    containers.run("buildah", "rm", name)
    image = f"{site.registry}/me/wrapped:v1"
    (app / "where.py").write_text(
        "import os\nprint(os.environ['FOUND_BY'], os.environ['PATH'].split(':')[1])\n"
    )
    (app / "gpuyard.yaml").write_text(
        f"run: python where.py\nenv: {{TOOL: {{value: /opt/tool, bake: true}}, OTHER: of the run}}\n"
        f"image: {{base: '{base}', repository: '{image}', labels: {{team: ml}}}}\n"
    )
    site.ok("build", "-f", "gpuyard.yaml", "--env", "PATH=/opt/tool/bin:${PATH}", cwd=app)
    assert containers.start(image) == "checks\n/opt/tool/lib /opt/tool/bin\n"
    (shown,) = site.ok("image", "show", image, "-o", "json").json["platforms"]
    assert (shown["env"]["TOOL"], "OTHER" in shown["env"], shown["labels"]["team"]) == (
        "/opt/tool",
        False,
        "ml",
    )
    assert shown["entry_point"][0] == "/opt/nvidia/nvidia_entrypoint.sh" and shown["built_by_gpuyard"]
    printed = site.ok("image", "show", image).out
    assert "TOOL=/opt/tool" in printed and "team=ml" in printed and "Command:      python where.py" in printed


def test_zstd_layers_run_too(site: Site, containers: Containers, app: Path) -> None:
    image = f"{site.registry}/me/zstd:v1"
    result = site.ok(
        "build", "--base", site.base, "-t", image, "--compression", "zstd", "-o", "json", cwd=app
    ).json
    (layer,) = result["platforms"]["linux/amd64"]["layers"]
    assert layer["media_type"].endswith("+zstd")
    assert containers.start(image, "python", "train.py") == "hello from the image\n"


def test_another_machine_on_another_day_builds_the_same(site: Site, app: Path, tmp_path: Path) -> None:
    image = f"{site.registry}/me/same:v1"
    first = site.ok("build", "--base", site.base, "-t", image, "-o", "json", cwd=app).json
    other = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(app, other)
    home = tmp_path / "home"
    home.mkdir()
    words = [
        str(arg) for arg in ("build", "--base", site.base, "-t", f"{site.registry}/you/same:v1", "-o", "json")
    ]
    second = site.ok(*words, cwd=other, home=home).json
    assert second["digest"] == first["digest"]


def test_the_revision_is_told_beside_the_image(site: Site, containers: Containers, app: Path) -> None:
    """A registry without the referrers API keeps them under a tag, which any tool reads."""
    commit = git_commit(app)
    image = f"{site.registry}/me/revision:v1"
    digest = site.ok("build", "--base", site.base, "-t", image, "-o", "json", cwd=app).json["digest"]
    name = f"docker://{site.registry}/me/revision:{digest.replace(':', '-')}"
    listed = json.loads(containers.run("skopeo", "inspect", "--raw", "--tls-verify=false", name))
    (revision,) = (
        entry["annotations"]["org.opencontainers.image.revision"]
        for entry in listed["manifests"]
        if entry["artifactType"] == "application/vnd.gpuyard.source.v1"
    )
    assert revision == commit
    (shown,) = site.ok("image", "show", image, "-o", "json").json["platforms"]
    assert shown["revision"] == commit


def test_a_layout_needs_no_registry(site: Site, containers: Containers, app: Path, debian_tar: Path) -> None:
    layout = containers.folder / "layout"
    site.ok("image", "import", debian_tar, "-t", f"oci:{layout}:base")
    site.ok("build", "--base", f"oci:{layout}:base", "-t", f"oci:{layout}:v1", cwd=app)
    archive = containers.folder / "v1.tar"
    site.ok("build", "--base", f"oci:{layout}:base", "-t", f"oci-archive:{archive}:v1", cwd=app)
    assert containers.start(f"oci:{layout}:v1", "python", "train.py") == "hello from the image\n"
    assert containers.start(f"oci-archive:{archive}:v1", "python", "train.py") == "hello from the image\n"


def test_a_spec_says_it_all(site: Site, app: Path) -> None:
    (app / "gpuyard.yaml").write_text(
        f"run: python train.py\nimage:\n  base: {site.base}\n  repository: {site.registry}/me/spec:v2\n"
    )
    result = site.ok("build", "-f", app / "gpuyard.yaml", "-o", "json").json
    assert result["tag"] == f"{site.registry}/me/spec:v2"
    assert (app / "gpuyard.lock").exists()
    again = site.ok("build", "-f", app / "gpuyard.yaml", "-o", "json").json
    assert again["unchanged"] is True and again["digest"] == result["digest"]
    dry = site.ok("run", "-f", app / "gpuyard.yaml", "--dry-run")
    assert f"{site.registry}/me/spec:v2" in dry.out


def test_a_dry_run_shows_the_nodes_name_of_an_image_that_is_to_be_built(site: Site, app: Path) -> None:
    (app / "gpuyard.yaml").write_text(
        f"run: python train.py\nworkdir: .\nimage:\n  base: {site.base}\n"
        f"  repository: {site.registry}/me/other:v2\n  pull_repository: inside.example:5000/team/other\n"
    )
    dry = site.ok("run", "-f", app / "gpuyard.yaml", "--dry-run", "-o", "json").json
    container = dry["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "inside.example:5000/team/other:v2"
    assert "workingDir" not in container
    assert site.tags("me/other") == []


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("{registry}/base/nothing:12", "base/nothing"),
        ("{registry}/base/debian:13", "13"),
        ("127.0.0.1:9/base/debian:12", "127.0.0.1:9"),
        ("Not A Name", "is not an image's name"),
        ("oci:/nowhere/at/all", "is not an OCI layout"),
    ],
)
def test_a_base_that_is_not_there(site: Site, app: Path, base: str, words: str) -> None:
    done = site.gpuyard(
        "build", "--base", base.format(registry=site.registry), "-t", f"{site.registry}/me/none:v1", cwd=app
    )
    assert done.code in (1, 2)
    assert words in done.err
    assert "Traceback" not in done.err and done.err.count("Error:") == 1
    assert site.tags("me/none") == []


def test_a_base_for_another_architecture(site: Site, app: Path) -> None:
    done = site.gpuyard(
        "build",
        "--base",
        site.base,
        "-t",
        f"{site.registry}/me/none:v1",
        "--platform",
        "linux/arm64",
        cwd=app,
    )
    assert done.code == 1
    assert "only for linux/amd64" in done.err
    assert site.tags("me/none") == []


def test_a_registry_that_wants_a_password(site: Site, app: Path, tmp_path: Path) -> None:
    folder = tmp_path / "guarded"
    folder.mkdir()
    (folder / "htpasswd").write_text("")
    auth = f"auth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}\n"
    with docker_registry(folder, auth) as registry:
        done = site.gpuyard("build", "--base", site.base, "-t", f"{registry}/me/train:v1", cwd=app)
    assert done.code == 1
    assert "wants credentials" in done.err and "docker login" in done.err


def test_what_cannot_be_resolved(site: Site, app: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("demo", requires=("nowhere-to-be-found>=3",))
    offer(tmp_path, app)
    (app / "requirements.txt").write_text("demo\n")
    done = site.gpuyard(
        "build", "--base", site.base, "--requirements", "requirements.txt", "-t",
        f"{site.registry}/me/none:v1", cwd=app,
    )  # fmt: skip
    assert done.code == 1
    assert "nowhere-to-be-found" in done.err and "No solution found" in done.err
    assert not (app / "gpuyard.lock").exists()
    assert site.tags("me/none") == []


def test_a_secret_is_refused_before_anything_is_sent(site: Site, app: Path) -> None:
    (app / ".env").write_text("TOKEN=1\n")
    words = ("build", "--base", site.base, "-t", f"{site.registry}/me/none:v1")
    done = site.gpuyard(*words, cwd=app)
    assert done.code == 2
    assert ".env" in done.err and "--allow-secret .env" in done.err
    assert site.tags("me/none") == []


def test_an_imported_base_shows_its_python(site: Site) -> None:
    (shown,) = site.ok("image", "show", site.base, "-o", "json").json["platforms"]
    assert shown["python"] == "3.11"


@pytest.mark.parametrize(("tag", "said"), [("", True), (":latest", False), (":v1", False)])
def test_a_name_without_a_tag_means_latest_and_says_so(site: Site, app: Path, tag: str, said: bool) -> None:
    for target in (f"{site.registry}/me/untagged{tag}", f"oci:{site.folder}/untagged{tag}"):
        done = site.ok("build", "--base", site.base, "-t", target, "-o", "json", cwd=app)
        assert ("Using default tag: latest\n" in done.err) is said
        assert done.json["tag"] == (target if tag else f"{target}:latest")
