"""What docs/how-to/from-a-dockerfile.md claims: each row of its tables is tried here by a build."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.building.build import build
from gpuyard.building.environment import ENTRYPOINT, PREFIX
from gpuyard.building.lock import read_lock
from gpuyard.building.options import BuildOptions, request_of_spec
from gpuyard.building.result import BuildResult
from gpuyard.images.oci import ContainerConfig
from gpuyard.images.places import Places
from gpuyard.workloads.spec.run_spec import load_spec
from tests.unit.building.documents.test_image_config import change_base
from tests.unit.building.layers.test_system_layer import STATUS
from tests.unit.building.planning.test_build_plan import write_repository
from tests.unit.building.python.conftest import serving
from tests.unit.building.system_packages.debian_archive import DebFile, DebianArchive, serve
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/from-a-dockerfile.md"
_SITE = f"{PREFIX.strip('/')}/lib/python3.11/site-packages"


@dataclass
class Bench:
    """A folder with a spec, and what was built of it."""

    shop: Workshop
    make_wheel: MakeWheel
    environ: dict[str, str] = field(default_factory=dict)

    async def build(
        self, image: str = "", spec: str = "", options: BuildOptions | None = None
    ) -> BuildResult:
        """Builds a spec whose `image` has these lines more."""
        lines = "".join(f"  {line}\n" for line in image.splitlines())
        base = "" if image.startswith("base:") else f"  base: {self.shop.base}\n"
        text = f"{spec}\nimage:\n{base}  repository: {self.shop.target}\n{lines}"
        if not re.search(r"^run:", spec, re.MULTILINE):
            text = f"run: python train.py\n{text}"
        (self.shop.app / "gpuyard.yaml").write_text(text)
        loaded = load_spec(text, "gpuyard.yaml", [], {})
        request = request_of_spec(loaded, self.shop.app / "gpuyard.yaml", options or BuildOptions(), {})
        async with Places(self.shop.environ) as places:
            environ = self.shop.environ | self.environ
            return await build(request, places, self.shop.cache, environ, self.shop.heard)

    async def container(self, image: str = "", spec: str = "") -> ContainerConfig:
        await self.build(image, spec)
        return (await self.shop.read())[1].container

    async def files(self, target: str | None = None) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """Of all layers, the later ones last."""
        manifest, _ = await self.shop.read(target)
        found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        for number in range(len(manifest.layers)):
            found |= await self.shop.layer(number, target)
        return found

    def write(self, path: str, content: str = "", mode: int = 0o644) -> None:
        file = self.shop.app / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)


Check = Callable[[Bench], Awaitable[Any]]
CHECKS: dict[str, Check] = {}


def row(first: str) -> Callable[[Check], Check]:
    """What is tried for the row that begins with this cell."""

    def keep(check: Check) -> Check:
        CHECKS[first] = check
        return check

    return keep


def _refused(key: str) -> Check:
    """There is no such key, and the build says so."""

    async def check(bench: Bench) -> None:
        with pytest.raises(errors.SpecError, match="unknown key"):
            await bench.build(f"{key}: x")

    return check


@row("`FROM python:3.11-slim`")
async def _base(bench: Bench) -> None:
    await bench.build()
    manifest, _ = await bench.shop.read()
    base, _ = await bench.shop.read(bench.shop.base)
    assert [layer.digest for layer in manifest.layers[:1]] == [layer.digest for layer in base.layers]


@row("`FROM python:3.11-alpine`")
async def _musl(bench: Bench) -> None:
    files = {path: content for path, content in debian_files().items() if "libc.so" not in path}
    await bench.shop.make_base(files | {"lib/ld-musl-x86_64.so.1": b"\x7fELF"})
    bench.make_wheel("demo", tag="cp311-cp311-manylinux_2_17_x86_64")
    bench.write("requirements.txt", "demo\n")
    with pytest.raises(errors.ResolveError, match="musllinux") as caught:
        await bench.build("requirements: requirements.txt")
    assert "choose one of Debian" in caught.value.remedy
    bench.make_wheel("demo", tag="cp311-cp311-musllinux_1_1_x86_64")
    await bench.build("requirements: requirements.txt")
    assert f"{_SITE}/demo/__init__.py" in await bench.files()


@row("`FROM python@sha256:…`")
async def _pinned(bench: Bench) -> None:
    first = await bench.build()
    lock = read_lock(bench.shop.app / "gpuyard.lock")
    assert lock is not None and re.fullmatch(r"sha256:[0-9a-f]{64}", lock.base_digest)
    await bench.shop.make_base(debian_files() | {"etc/new": ""})
    assert (await bench.build()).digest == first.digest
    assert (await bench.build(options=BuildOptions(upgrade=True))).digest != first.digest


@row("`FROM --platform=linux/arm64 …`")
async def _platform(bench: Bench) -> None:
    await bench.shop.make_base(platform="linux/arm64")
    await bench.build("platforms: [linux/arm64]")
    assert str((await bench.shop.read())[1].platform) == "linux/arm64"


@row("`FROM scratch`")
async def _scratch(bench: Bench) -> None:
    await bench.shop.make_base({"etc/passwd": ""})
    with pytest.raises(errors.BuildError, match="no Python 3"):
        await bench.build()


@row("`FROM … AS build`, `COPY --from=build /out /opt/out`")
async def _stage(bench: Bench) -> None:
    await bench.shop.make_base({"out/tool": "made"}, name="stage")
    stage = f"oci:{bench.shop.folder / 'base'}:stage"
    await bench.build(f"copy_from: ['{stage}:/out:/opt/out']")
    assert (await bench.files())["opt/out/tool"][1] == b"made"


@row("`FROM` an image of yours")
async def _chain(bench: Bench) -> None:
    bench.make_wheel("demo")
    shared = f"oci:{bench.shop.folder / 'shared'}:v1"
    await bench.shop.build(target=shared, requirements=bench.shop.require("demo"))
    await bench.build(f"base: {shared}")
    files = await bench.files()
    assert f"{_SITE}/demo/__init__.py" in files and "workspace/gpuyard.yaml" in files


@row("`ARG`, `--build-arg`")
async def _flags(bench: Bench) -> None:
    target = f"oci:{bench.shop.folder / 'other'}:v2"
    options = BuildOptions(tags=(target,), env=("A=2",))
    await bench.build(spec='env: {A: {value: "1", bake: true}}', options=options)
    assert (await bench.shop.read(target))[1].container.environment["A"] == "2"


async def _with_tool(bench: Bench) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Files of an image with a system package, whose base has an older `old` than its archive."""
    archive = DebianArchive()
    with serve(archive):
        tool = DebFile("tool", fields={"Recommends": "more"}, files={"usr/bin/tool": b"#!"})
        archive.publish([tool, DebFile("more"), DebFile("old", "2")], date=datetime.now(UTC))
        await bench.shop.make_base(debian_files() | archive.base_files(STATUS))
        await bench.build("system_packages: [tool]")
    return await bench.files()


@row("`RUN apt-get install -y --no-install-recommends libgl1`")
async def _system_package(bench: Bench) -> None:
    files = await _with_tool(bench)
    assert files["usr/bin/tool"][1] == b"#!" and b"Package: more" not in files["var/lib/dpkg/status"][1]
    assert '"tool"' in (bench.shop.app / "gpuyard.lock").read_text()


@row("`RUN apt-get update`, `rm -rf /var/lib/apt/lists/*`, `ENV DEBIAN_FRONTEND=…`")
async def _no_lists(bench: Bench) -> None:
    assert not [path for path in await _with_tool(bench) if path.startswith("var/lib/apt/lists/")]
    assert "DEBIAN_FRONTEND" not in (await bench.shop.read())[1].container.environment


@row("`RUN apt-get upgrade`")
async def _no_upgrade(bench: Bench) -> None:
    status = (await _with_tool(bench))["var/lib/dpkg/status"][1].decode()
    assert re.search(r"Package: old\n(?:.+\n)*Version: 1\n", status)


CHECKS["`RUN add-apt-repository …`, `RUN echo deb … > /etc/apt/sources.list.d/…`"] = _refused("apt_sources")


@row("`RUN apk add …`, `RUN dnf install …`")
async def _other_packages(bench: Bench) -> None:
    with pytest.raises(errors.BuildError, match="no packages of Debian's or Ubuntu's"):
        await bench.build("system_packages: [tool]")


@row("`RUN pip install -r requirements.txt`")
async def _requirements(bench: Bench) -> None:
    bench.make_wheel("demo")
    bench.write("requirements.txt", "demo\n")
    await bench.build("requirements: requirements.txt")
    assert f"{_SITE}/demo/__init__.py" in await bench.files()
    assert "sha256" in (bench.shop.app / "gpuyard.lock").read_text()


@row("`RUN pip install numpy==2.1`")
async def _pinned_requirement(bench: Bench) -> None:
    for version in ("2.0", "2.1", "2.2"):
        bench.make_wheel("numpy", version)
    bench.write("requirements.txt", "numpy==2.1\n")
    await bench.build("requirements: requirements.txt")
    assert f"{_SITE}/numpy-2.1.dist-info/METADATA" in await bench.files()


@row("`RUN uv sync`, `RUN pip install -r` a lock")
async def _lock(bench: Bench) -> None:
    bench.make_wheel("demo", "1.0")
    bench.make_wheel("demo", "2.0")
    bench.write("requirements.txt", "demo<2\n")
    await bench.build("requirements: requirements.txt")
    [wheel] = next(iter(read_lock(bench.shop.app / "gpuyard.lock").platforms.values())).wheels  # type: ignore[union-attr]
    url = (bench.shop.folder / "wheels" / wheel.file).as_uri()
    bench.write(
        "pylock.toml",
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "demo"\nversion = "1.0"\n'
        f'wheels = [{{url = "{url}", hashes = {{sha256 = "{wheel.sha256}"}}}}]\n',
    )
    await bench.build("requirements: pylock.toml")
    assert f"{_SITE}/demo-1.0.dist-info/METADATA" in await bench.files()


@row("`RUN pip install -e .`, `RUN poetry install`")
async def _project(bench: Bench) -> None:
    bench.write("src/mine/__init__.py", "def main(): pass\n")
    bench.write(
        "pyproject.toml",
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mine"\nversion = "1"\n[project.scripts]\nmine = "mine:main"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["src/mine"]\n',
    )
    for requirements, content in (("pyproject.toml", ""), ("requirements.txt", "-e .\n")):
        if content:
            bench.write(requirements, content)
        await bench.build(f"requirements: {requirements}")
        files = await bench.files()
        assert f"{PREFIX.strip('/')}/bin/mine" in files and "workspace/src/mine/__init__.py" in files
        assert any(
            b"/workspace/src" in content for path, (_, content) in files.items() if path.endswith(".pth")
        )


@row("`COPY dist/*.whl .` and `RUN pip install *.whl`")
async def _own_wheel(bench: Bench) -> None:
    (bench.shop.app / "dist").mkdir()
    bench.write("requirements.txt", "./dist/mine-1.0-py3-none-any.whl\n")
    for content in ("old", "new"):
        wheel = bench.make_wheel("mine", files={"mine.py": content})
        wheel.replace(bench.shop.app / "dist" / wheel.name)
        await bench.build("requirements: requirements.txt")
        assert (await bench.files())[f"{_SITE}/mine.py"][1] == content.encode()


@row("`RUN pip install --index-url https://user:$TOKEN@…`")
async def _index_with_a_token(bench: Bench) -> None:
    bench.make_wheel("demo")
    (bench.shop.folder / "uv.toml").unlink()
    with serving(bench.shop.folder / "wheels") as index:
        bench.environ["TOKEN"] = "secret"
        bench.write("requirements.txt", f"--index-url {index.url('me:${TOKEN}@')}\ndemo\n")
        await bench.build("requirements: requirements.txt")
        assert index.logins
    files = await bench.files()
    assert f"{_SITE}/demo/__init__.py" in files
    held = [content for _, content in files.values()] + [(bench.shop.app / "gpuyard.lock").read_bytes()]
    assert not [content for content in held if b"me:secret" in content]


@row("`RUN pip install git+https://…`")
async def _source(bench: Bench) -> None:
    bench.make_wheel("demo")
    repository = write_repository(bench.shop)
    bench.write("requirements.txt", f"own @ git+file://{repository}\n")
    with pytest.raises(errors.BuildError, match="sources"):
        await bench.build("requirements: requirements.txt")
    await bench.build("requirements: requirements.txt\nbuild_sources: [own]")
    assert f"{_SITE}/own.py" in await bench.files()
    assert re.search(r"repository@[0-9a-f]{40}", (bench.shop.app / "gpuyard.lock").read_text())


@row("`RUN conda env create -f environment.yml`")
async def _conda_environment(bench: Bench) -> None:
    bench.make_wheel("demo")
    bench.write("environment.yml", "name: x\ndependencies: [python=3.11, demo=1.0]\n")
    await bench.build("requirements: environment.yml")
    assert f"{_SITE}/demo/__init__.py" in await bench.files()


@row("`RUN --mount=type=cache,target=/root/.cache/pip …`")
async def _cache(bench: Bench) -> None:
    bench.make_wheel("demo")
    bench.write("requirements.txt", "demo\n")
    first = await bench.build("requirements: requirements.txt")
    [kept] = (bench.shop.cache.folder / "wheels").rglob("*.whl")
    before = kept.stat()
    bench.write("more.py")
    second = await bench.build("requirements: requirements.txt")
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    layers = [built.platforms["linux/amd64"].layers for built in (first, second)]
    assert layers[0][0] == layers[1][0] and layers[0][-1] != layers[1][-1]


@row("`RUN --mount=type=secret …`")
async def _secrets_stay(bench: Bench) -> None:
    bench.write(".netrc", "machine index.example login me password hunter2\n")
    with pytest.raises(errors.GpuyardError, match="secret"):
        await bench.build()


@row("`RUN conda install …`")
async def _conda(bench: Bench) -> None:
    brought = "opt/conda/lib/python3.11/site-packages/demo-1.0.dist-info/METADATA"
    files = debian_files() | {
        "opt/conda/bin/python": "-> python3.11",
        "opt/conda/bin/python3.11": b"\x7fELF",
        brought: "Name: demo\nVersion: 1.0\n",
    }
    await bench.shop.make_base(files)
    await change_base(bench.shop, env=("PATH=/opt/conda/bin:/usr/bin",))
    bench.make_wheel("more", requires=("demo",))
    bench.write("requirements.txt", "more\n")
    await bench.build("requirements: requirements.txt")
    built = await bench.files()
    assert built[f"{PREFIX.strip('/')}/bin/python"][0].linkname == "/opt/conda/bin/python3.11"
    assert f"{_SITE}/more/__init__.py" in built and f"{_SITE}/demo/__init__.py" not in built


@row("`RUN make`, `RUN ./download.sh`, `RUN <<EOF`")
async def _nothing_runs(bench: Bench) -> None:
    await _refused("run")(bench)
    bench.write("model.bin", "made before")
    await bench.build()
    assert (await bench.files())["workspace/model.bin"][1] == b"made before"


@row("`COPY . .`")
async def _all_files(bench: Bench) -> None:
    bench.write("pkg/a.py", "a")
    (bench.shop.app / "empty").mkdir()
    await bench.build()
    files = await bench.files()
    assert files["workspace/pkg/a.py"][1] == b"a" and files["workspace/empty"][0].isdir()


@row("`COPY src/ .`")
async def _a_folder(bench: Bench) -> None:
    bench.write("src/a.py")
    bench.write("notes.txt")
    await bench.build(spec="workdir: src")
    files = await bench.files()
    assert "workspace/a.py" in files and "workspace/notes.txt" not in files


@row("`WORKDIR /srv/app`")
async def _workdir(bench: Bench) -> None:
    container = await bench.container(spec="workdir: /srv/app")
    assert container.working_dir == "/srv/app" and "srv/app/train.py" in await bench.files()


@row("`COPY --chown=1000:1000 …`")
async def _owner(bench: Bench) -> None:
    await bench.build()
    files = await bench.files()
    assert {files[path][0].uid for path in ("workspace", "workspace/train.py")} == {1000}


@row("`COPY --chmod=755 …`")
async def _modes(bench: Bench) -> None:
    bench.write("run.sh", mode=0o711)
    bench.write("private.txt", mode=0o600)
    await bench.build()
    files = await bench.files()
    assert (files["workspace/run.sh"][0].mode, files["workspace/private.txt"][0].mode) == (0o755, 0o644)


@row("`ADD data.tar.gz /data/`")
async def _archive(bench: Bench) -> None:
    with tarfile.open(bench.shop.app / "data.tar.gz", "w:gz") as archive:
        archive.add(bench.shop.app / "train.py", "inner.py")
    await bench.build()
    files = await bench.files()
    assert "workspace/data.tar.gz" in files and not [path for path in files if path.endswith("inner.py")]


@row("`ADD https://… /models/`")
async def _large(bench: Bench) -> None:
    with (bench.shop.app / "model.bin").open("wb") as file:
        file.truncate(60 << 20)
    first = await bench.build()
    bench.write("train.py", "changed")
    second = await bench.build()
    layers = [
        {layer.blob.digest for _, layer in built.platforms["linux/amd64"].layers} for built in (first, second)
    ]
    assert len(layers[0]) > 1 and len(layers[0] - layers[1]) == 1


@row("`.dockerignore`")
async def _ignored(bench: Bench) -> None:
    bench.write(".dockerignore", "data\n")
    bench.write("data/x")
    await bench.build()
    assert "workspace/data/x" not in await bench.files()
    bench.write(".gpuyardignore", "train.py\n")
    await bench.build()
    files = await bench.files()
    assert "workspace/data/x" in files and "workspace/train.py" not in files


@row("`ENV A=1`")
async def _env(bench: Bench) -> None:
    container = await bench.container(spec='env: {A: {value: "1", bake: true}, B: "2"}')
    assert container.environment["A"] == "1" and "B" not in container.environment


@row("`ENV PATH=/opt/tool/bin:$PATH`")
async def _path(bench: Bench) -> None:
    await change_base(bench.shop, env=("PATH=/base/bin:/usr/bin",))
    container = await bench.container(spec='env: {PATH: {value: "/opt/tool/bin:${PATH}", bake: true}}')
    assert container.environment["PATH"] == f"{PREFIX}/bin:/opt/tool/bin:/base/bin:/usr/bin"


@row("`LABEL team=ml`, `MAINTAINER me`")
async def _labels(bench: Bench) -> None:
    assert (await bench.container("labels: {team: ml}")).labels["team"] == "ml"


@row("`USER 1000`")
async def _user(bench: Bench) -> None:
    container = await bench.container()
    assert container.user == "1000:1000" and container.environment["HOME"] == "/home/gpuyard"
    assert (await bench.files())["home/gpuyard"][0].uid == 1000


CHECKS["`USER root`"] = _refused("user")


@row("`EXPOSE 8080`, `VOLUME /data`, `STOPSIGNAL SIGINT`")
async def _kept(bench: Bench) -> None:
    other = {"ExposedPorts": {"8080/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT"}
    await change_base(bench.shop, other=other)
    assert (await bench.container()).other == other
    await _refused("ports")(bench)


@row("`HEALTHCHECK`, `ONBUILD`")
async def _left_out(bench: Bench) -> None:
    await change_base(bench.shop, other={"Healthcheck": {"Test": ["CMD", "x"]}, "OnBuild": ["RUN x"]})
    assert (await bench.container()).other == {}


def _starts(spec: str, *command: str) -> Check:
    async def check(bench: Bench) -> None:
        container = await bench.container(spec=spec)
        assert (container.entrypoint, container.cmd) == (ENTRYPOINT, command)

    return check


CHECKS['`CMD ["python", "train.py"]`'] = _starts("run: [python, train.py]", "python", "train.py")
CHECKS['`ENTRYPOINT ["python", "train.py"]`'] = _starts("run: [python, train.py]", "python", "train.py")
CHECKS['`ENTRYPOINT ["/entry.sh"]`, `CMD ["python", "train.py"]`'] = _starts(
    "run: [./entry.sh, python, train.py]", "./entry.sh", "python", "train.py"
)


@row("`CMD python train.py --epochs $EPOCHS`")
async def _line(bench: Bench) -> None:
    container = await bench.container(spec="run: python train.py --epochs $EPOCHS")
    assert container.cmd[-1] == "python train.py --epochs $EPOCHS" and any(
        "bash" in word for word in container.cmd
    )


@row('`SHELL ["/bin/zsh", "-c"]`')
async def _shell(bench: Bench) -> None:
    container = await bench.container(spec="run: python train.py $EPOCHS\nshell: zsh")
    assert container.cmd[0] == "zsh" and container.cmd[-1] == "python train.py $EPOCHS"


@row("no `CMD`, no `ENTRYPOINT`")
async def _no_command(bench: Bench) -> None:
    await change_base(bench.shop, cmd=("serve",))
    await bench.shop.build()
    assert (await bench.shop.read())[1].container.cmd == ("serve",)
    await change_base(bench.shop, cmd=())
    await bench.shop.build(upgrade=True)
    assert (await bench.shop.read())[1].container.cmd == ("python",)


@row("`-f Dockerfile .`")
async def _spec(bench: Bench) -> None:
    built, flags = await bench.build(), await bench.shop.build(command=("python", "train.py"))
    assert flags.digest == built.digest


@row("`-t A -t B`, `--push`")
async def _tags(bench: Bench) -> None:
    names = tuple(f"oci:{bench.shop.folder / 'named'}:{tag}" for tag in "ab")
    await bench.build(options=BuildOptions(tags=names))
    assert await bench.shop.read(names[0]) == await bench.shop.read(names[1])


@row("`--no-cache`, `--pull`")
async def _upgrade(bench: Bench) -> None:
    await _pinned(bench)


@row("`--cache-from`, `--cache-to`")
async def _elsewhere(bench: Bench) -> None:
    """Another machine has another cache."""
    first = await bench.build()
    bench.shop.cache.folder.rename(bench.shop.folder / "gone")
    again = await bench.build()
    assert again.unchanged and again.digest == first.digest


@pytest.mark.parametrize("first", CHECKS)
async def test_a_row(workshop: Workshop, make_wheel: MakeWheel, first: str) -> None:
    expect_claim = CHECKS[first]
    await expect_claim(Bench(workshop, make_wheel))


def test_the_pages_example_is_a_spec() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    spec = load_spec(text, "gpuyard.yaml", [], {})
    assert spec.build is not None and spec.baked == {"TOKENIZERS_PARALLELISM": "false"}
