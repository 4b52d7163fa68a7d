from __future__ import annotations

from gpuyard.building.environment import PREFIX
from gpuyard.building.image_import import import_root
from gpuyard.building.layers.removal_layer import gone_paths
from gpuyard.images.layers import compression
from gpuyard.images.oci import Platform
from gpuyard.images.places import Places
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files, tar_of

ROOT = PREFIX.strip("/")
SITE = f"{ROOT}/lib/python3.11/site-packages"


async def shown(workshop: Workshop, target: str) -> dict[str, bytes]:
    """The files that an image's layers together show."""
    manifest, _ = await workshop.read(target)
    found: dict[str, bytes] = {}
    for number in range(len(manifest.layers)):
        members = await workshop.layer(number, target)
        for path in members:
            folder, _, name = path.rpartition("/")
            if name.startswith(".wh."):
                gone = f"{folder}/{name.removeprefix('.wh.')}"
                found = {p: c for p, c in found.items() if p != gone and not p.startswith(f"{gone}/")}
        found |= {
            path: content for path, (info, content) in members.items() if info.isreg() and "/.wh." not in path
        }
    return found


async def test_a_package_of_a_base_of_ours_is_replaced_as_a_whole(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo", "1.0", {"demo/__init__.py": "x = 1\n", "demo/old.py": "", "both/__init__.py": "old"},
               entry_points="[console_scripts]\nold = demo.old:main\n")  # fmt: skip
    make_wheel("other", "1.0", {"other/__init__.py": "", "both/other.py": ""})
    await workshop.build(requirements=workshop.require("demo", "other"))
    make_wheel("demo", "2.0", {"demo/__init__.py": "x = 2\n", "demo/new.py": "", "both/__init__.py": "new"})
    on_top = f"oci:{workshop.folder / 'out'}:v2"
    result = await workshop.build(
        base=workshop.target, target=on_top, requirements=workshop.require("demo>=2"), byte_code=False
    )
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["without the base's demo", "demo 2.0", "application"]
    files = await shown(workshop, on_top)
    ours = sorted(path[len(SITE) + 1 :] for path in files if path.startswith(f"{SITE}/"))
    assert [path for path in ours if "dist-info" not in path and "__pycache__" not in path] == [
        "both/__init__.py", "both/other.py", "demo/__init__.py", "demo/new.py", "other/__init__.py",
    ]  # fmt: skip
    assert files[f"{SITE}/demo/__init__.py"] == b"x = 2\n" and files[f"{SITE}/both/__init__.py"] == b"new"
    assert not [path for path in ours if "demo" in path and "__pycache__" in path], (
        "byte code of the old files"
    )
    assert {path.partition("/")[0] for path in ours if "dist-info" in path} == {
        "demo-2.0.dist-info",
        "other-1.0.dist-info",
    }
    assert f"{ROOT}/bin/old" not in files


async def test_a_base_of_ours_is_built_on_as_any_other(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo", requires=("pyyaml",))
    (workshop.app / "lower.py").write_text("")
    await workshop.build(requirements=workshop.require("demo"), command=("python", "lower.py"))
    (workshop.app / "lower.py").unlink()
    make_wheel("more", requires=("demo",))
    on_top = f"oci:{workshop.folder / 'out'}:v2"
    result = await workshop.build(
        base=workshop.target,
        target=on_top,
        requirements=workshop.require("more"),
        command=("python", "train.py"),
    )
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["more 1.0", "application"]
    _, lower = await workshop.read()
    _, upper = await workshop.read(on_top)
    assert upper.container.entrypoint == lower.container.entrypoint
    assert upper.container.cmd == ("python", "train.py")
    assert upper.container.env == lower.container.env
    assert upper.container.environment["PATH"].count(PREFIX) == 1
    files = await shown(workshop, on_top)
    assert {f"{SITE}/demo/__init__.py", f"{SITE}/more/__init__.py", "workspace/lower.py"} <= files.keys()
    assert not [path for path in files if path.endswith(".pth")]
    assert files["etc/passwd"].count(b"gpuyard:x:") == 1


async def test_what_the_environment_of_the_lowest_base_brings_is_still_seen(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    """A base whose Python is in an environment, ours on it, and ours on that."""
    inner = "opt/venv/lib/python3.11/site-packages"
    files = debian_files() | {
        "opt/venv/pyvenv.cfg": "",
        "opt/venv/bin/python3": "-> /usr/bin/python3.11",
        f"{inner}/tool-3.0.dist-info/METADATA": "Name: tool\nVersion: 3.0\n",
    }
    rootfs = workshop.folder / "venv.tar"
    rootfs.write_bytes(tar_of(files))
    base = f"oci:{workshop.folder / 'base'}:venv"
    env = {"PATH": "/opt/venv/bin:/usr/bin:/bin"}
    async with Places({}) as places:
        place = await places.open(base, write=True)
        await import_root(rootfs, place, Platform("linux", "amd64"), compression(), env, lambda n, of: None)
    make_wheel("demo")
    await workshop.build(base=base, requirements=workshop.require("demo"))
    make_wheel("more", requires=("demo", "tool"))
    on_top = f"oci:{workshop.folder / 'out'}:v2"
    await workshop.build(base=workshop.target, target=on_top, requirements=workshop.require("more"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "tool-" not in lock and "demo-" not in lock and "more-1.0" in lock
    shown_files = await shown(workshop, on_top)
    assert shown_files[f"{SITE}/_base.pth"] == f"/{inner}\n".encode()


def test_folders_go_as_a_whole_where_nothing_stays_in_them() -> None:
    removed = {"s/a/__init__.py", "s/a/b/c.py", "s/both/x.py", "s/top.py", "bin/a", "s/same.py"}
    kept = {"s/both/y.py", "s/same.py"}
    assert gone_paths("s", removed, kept) == {"s/a", "s/both/x.py", "s/top.py", "bin/a"}
