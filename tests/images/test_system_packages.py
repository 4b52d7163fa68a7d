"""Packages of the base's Debian in an image, from the real archive, as dpkg, apt and the loader see them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.images.conftest import Containers, Site

_SPEC = """\
name: gl
python: python3
run: main.py
image:
  base: {base}
  repository: {image}
  system_packages: [libgl1]
"""
_MAIN = "import ctypes\nctypes.CDLL('libGL.so.1')\nprint('libGL is there')\n"


def test_a_library_of_the_distributions_is_locked_unpacked_and_loaded(
    site: Site, containers: Containers, app: Path, tmp_path: Path
) -> None:
    image = f"{site.registry}/me/gl:v1"
    (app / "main.py").write_text(_MAIN)
    (app / "gpuyard.yaml").write_text(_SPEC.format(base=site.base, image=image))
    built = site.ok("build", "-f", "gpuyard.yaml", "-o", "json", cwd=app).json
    assert [layer["title"] for layer in built["platforms"]["linux/amd64"]["layers"]] == [
        "40 system packages",
        "application",
    ]
    lock = tomllib.loads((app / "gpuyard.lock").read_text())
    assert lock["system-packages"] == ["libgl1"]
    locked = {package["name"]: package for package in lock["platform"][0]["system-packages"]}
    assert locked["libgl1"]["asked"] is True and "asked" not in locked["libglvnd0"]

    assert containers.start(built["reference"], "python3", "main.py") == "libGL is there\n"
    see = (
        "set -e; dpkg --audit; dpkg -V; apt-get check -qq -o Debug::NoLocking=1; "
        "dpkg-query -W -f '${Version}\\n' libgl1"
    )
    assert containers.start(built["reference"], "sh", "-c", see) == locked["libgl1"]["version"] + "\n"

    # Another machine, with nothing in its cache, makes the same image of the lock; this one finds it.
    elsewhere = f"{site.registry}/other/gl:v1"
    words = ("build", "-f", "gpuyard.yaml", "-t", elsewhere, "-o", "json")
    assert site.ok(*words, cwd=app, home=tmp_path / "elsewhere").json["digest"] == built["digest"]
    again = site.ok("build", "-f", "gpuyard.yaml", cwd=app)
    assert "it was there already" in again.err


#: What people put into images most, and whether it works: each line prints what is behind it.
_PROGRAMS = {
    "ffmpeg -v error -f lavfi -i sine=d=1 -f wav -y /tmp/a.wav && stat -c %s /tmp/a.wav": "88278",
    "git init -q /tmp/g && ls -d /tmp/g/.git": "/tmp/g/.git",
    "ssh-keygen -q -t ed25519 -N '' -f /tmp/k && ls /tmp/k.pub": "/tmp/k.pub",
    "echo 'int main(){return 0;}' > /tmp/a.cc && g++ /tmp/a.cc -o /tmp/a && /tmp/a && echo built": "built",
    "echo 'digraph{a->b}' | dot -Tpng | head -c 4 | tail -c 3; echo": "PNG",
    "tesseract --list-langs | grep eng": "eng",
    "python3 -c 'import ctypes; print(ctypes.CDLL(\"libmagic.so.1\").magic_version() > 0)'": "True",
    "python3 -c 'import ctypes; print(bool(ctypes.CDLL(\"libsndfile.so.1\").sf_version_string))'": "True",
    "pdftotext -v 2>&1 | head -1 | cut -d' ' -f1": "pdftotext",
    "espeak-ng -q --ipa hello | tr -d ' '": "həlˈəʊ",
}


def test_what_people_put_into_images_works(site: Site, containers: Containers, app: Path) -> None:
    names = "ffmpeg git openssh-client build-essential graphviz tesseract-ocr libmagic1 libsndfile1"
    packages = [*names.split(), "poppler-utils", "espeak-ng"]
    flags = [word for package in packages for word in ("--system-package", package)]
    image = f"{site.registry}/me/many:v1"
    done = site.ok("build", "--base", site.base, "-t", image, *flags, "-o", "json", cwd=app)
    assert "openssh-client isn't run: it makes ssh-agent setgid" in done.err
    script = "\n".join(["export LC_ALL=C.UTF-8", *_PROGRAMS])
    said = containers.start(done.json["reference"], "sh", "-c", script)
    assert said.splitlines() == list(_PROGRAMS.values())
