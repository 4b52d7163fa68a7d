"""One platform's image: its layers made and sent where they aren't, then config, SBOM and manifest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.environment import names_replaced
from gpuyard.building.image_config import image_annotations, image_config
from gpuyard.building.layers.application_layer import ApplicationLayer
from gpuyard.building.layers.large_files import LargeFileLayer, group_files, large_files
from gpuyard.building.layers.layer_upload import PackedFile, descriptor_of, upload_new
from gpuyard.building.layers.planned_layer import PlannedLayer, known_layer, layer_key, remember_layer
from gpuyard.building.layers.wheel_layers import WheelLayer, WheelStock, group_wheels
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.building.plan import PlatformPlan, Reporter
from gpuyard.building.python.byte_code import Compiler, find_compiler
from gpuyard.building.sbom import EMPTY, MEDIA_TYPE, cyclonedx, sbom_manifest
from gpuyard.building.workdir.application import Application
from gpuyard.images.cache import Cache
from gpuyard.images.contents.system import is_library
from gpuyard.images.layers import Compression, Entry, Layer
from gpuyard.images.oci import OCI_CONFIG, OCI_EMPTY, OCI_MANIFEST, Descriptor, Digest, Manifest
from gpuyard.images.places import Place
from gpuyard.images.transfer import Blob, ensure_blob, ensure_blobs, first_error

#: Container runtimes mount at most this many layers.
_MOST_LAYERS = 127
#: Wheels that were seen to find their libraries.
_LIBRARIES = "libraries-found"
#: Packing is bound by the processor; more at once would only hold more memory.
_PACKING = 2


@dataclass(frozen=True)
class Recipe:
    """What is the same on all platforms of a build.

    Attributes:
        base: what the images stand on.
        target: where they go.
        application: the files of the workdir.
        workdir: absolute path in the image.
        command: of the image; empty for the base's own.
        compression: of layers.
        byte_code: whether wheels are compiled.
        created: Unix time of everything in the image, seconds.
        folder: where uv looks for its configuration.
        file_digests: of the application's large files: SHA-256 by path.
        allow_missing_libraries: names of shared libraries that wheels may lack.
        copies: files and folders of other images.
        env, labels: of the image, over the base's.
    """

    base: Place
    target: Place
    application: Application
    workdir: str
    command: tuple[str, ...]
    compression: Compression
    byte_code: bool
    created: int
    folder: Path
    file_digests: Mapping[str, str]
    allow_missing_libraries: tuple[str, ...] = ()
    copies: Sequence[CopiedPath] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltImage:
    """One platform's image: its documents, and what the build added to the base.

    Attributes:
        config_json, manifest_json: as they are stored.
        layers: those that the build added to the base, each with its title.
        unchanged: the store had it already.
    """

    config_json: bytes
    manifest_json: bytes
    annotations: Mapping[str, str]
    layers: tuple[tuple[str, Layer], ...]
    unchanged: bool = False

    @property
    def manifest(self) -> Descriptor:
        """What an index lists."""
        return Descriptor.for_bytes(OCI_MANIFEST, self.manifest_json)


@dataclass
class _Pending:
    """A layer on its way.

    Attributes:
        known: once it was packed, now or before.
        packed: its bytes, where they had to be packed to know it.
        ready: set when what it is made of is on this machine, or isn't needed.
    """

    planned: PlannedLayer
    known: Layer | None = None
    packed: PackedFile | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class PlatformBuild:
    """Builds for one platform; `run` once."""

    plan: PlatformPlan
    recipe: Recipe
    cache: Cache
    environ: Mapping[str, str]
    reporter: Reporter

    async def run(self) -> BuiltImage:
        """Has in the store all that the image's manifest names; the manifest is the caller's to put.

        Raises:
            ImageError: something can't be read, made or sent.
        """
        compiler = await self._find_compiler()
        pending = [_Pending(planned) for planned in self._planned(compiler)]
        with ExitStack() as files:
            for layer in pending:
                if layer.planned.key:
                    layer.known = known_layer(self.cache, layer.planned.key)
                else:
                    layer.packed = await PackedFile.pack(layer.planned.pack(), self.cache)
                    files.callback(layer.packed.close)
                    layer.known = layer.packed.layer
            image = None
            if all(layer.known for layer in pending):
                image = self._image(pending, compiler)
                if await self.recipe.target.store.find_manifest(image.manifest.digest):
                    return replace(image, unchanged=True)
            await self._send_layers(pending, image)
        if image is None:
            image = self._image(pending, compiler)
            await self._send_documents(image)
        return image

    def _planned(self, compiler: Compiler | None) -> list[PlannedLayer]:
        """The image's layers, the lowest first: what seldom changes lies below what often does."""
        recipe, plan = self.recipe, self.plan
        below = list(self._below_wheels())
        built = [wheel for wheel in plan.wheels if wheel not in plan.lock.wheels]
        left = _MOST_LAYERS - len(plan.base.manifest.layers) - len(below) - len(built) - 1
        if left < 1:
            raise errors.BuildError(
                f"the base, system packages and what is copied have {_MOST_LAYERS - 1 - left} layers, and an "
                f"image can have {_MOST_LAYERS}",
                remedy="flatten the base: `gpuyard image import` makes one layer of a root file system",
            )
        files = [
            LargeFileLayer(
                recipe.application.only(paths),
                recipe.file_digests,
                plan.contents.folders,
                recipe.workdir,
                recipe.created,
                recipe.compression,
            )
            # One layer is the wheels'.
            for paths in group_files(large_files(recipe.application), left - 1)
        ]
        stock = WheelStock(plan, compiler, recipe.folder, self.cache, self.environ, self.reporter)
        wheels = [
            WheelLayer(group, stock, recipe.created, recipe.compression)
            for group in group_wheels(plan.lock.wheels, left - len(files))
        ]
        # A project's wheel is another with each edit, and shares no layer with those that aren't.
        projects = [WheelLayer((wheel,), stock, recipe.created, recipe.compression) for wheel in built]
        application = ApplicationLayer(
            recipe.application.without(path for layer in files for path, _ in layer.application.files),
            plan.environment,
            plan.contents,
            recipe.workdir,
            recipe.created,
            recipe.compression,
            self._project_entries(),
        )
        return [*below, *wheels, *files, *projects, application]

    def _below_wheels(self) -> Iterator[PlannedLayer]:
        yield from self._system_layers()
        plan, recipe, folders = self.plan, self.recipe, self.plan.contents.folders
        packing = recipe.created, recipe.compression
        names = [wheel.name for wheel in plan.lock.wheels]
        names += [project.metadata.key for project in plan.projects]
        if replaced := names_replaced(plan.environment, plan.contents.packages, names):
            from gpuyard.building.layers.removal_layer import RemovalLayer

            yield RemovalLayer(plan.base, folders, replaced, plan.environment, *packing, self.reporter)
        for each in recipe.copies:
            from gpuyard.building.layers.copied_layer import CopiedLayer  # Few builds need it.

            image = plan.copied[each.image]
            yield CopiedLayer(each, image, folders, recipe.workdir, *packing, self.cache, self.reporter)

    def _project_entries(self) -> Sequence[Entry]:
        read = [project for project in self.plan.projects if not project.wheel]
        if not read:
            return ()
        from gpuyard.building.project.installed import Workdir, project_entries

        application, environment = self.recipe.application, self.plan.environment
        files = frozenset(path for path, _ in application.files)
        workdir = Workdir(application.root.absolute(), files, self.recipe.workdir)
        return [entry for project in read for entry in project_entries(project, workdir, environment)]

    def _system_layers(self) -> Sequence[PlannedLayer]:
        """One of system packages, where there are any."""
        if not self.plan.lock.system_packages:
            return ()
        from gpuyard.building.layers.system_layer import system_layer  # Few builds have one.

        recipe = self.recipe
        return [
            system_layer(
                self.plan,
                recipe.base.text,
                recipe.created,
                recipe.compression,
                self.cache,
                self.environ,
                self.reporter,
            )
        ]

    async def _find_compiler(self) -> Compiler | None:
        if not self.recipe.byte_code or not self.plan.wheels:
            return None
        python = self.plan.environment.python
        compiler = await find_compiler(python.minor, self.environ)
        if compiler is None:
            self.reporter.say(
                f"no byte code: there is no python{python.version} on this machine's PATH to compile with, "
                "so imports in the image are slower"
            )
        locked, here = self.plan.lock.byte_code, str(compiler or "none")
        if locked not in ("", here):
            self.reporter.say(
                f"{LOCK_NAME} was made where byte code was by {locked}, and here it is by {here}: the "
                "image's digest is another than there"
            )
        return compiler

    async def _send_layers(self, pending: Sequence[_Pending], image: BuiltImage | None) -> None:
        """Has every layer in the store, and the image's documents when they are known already."""
        store = self.recipe.target.store
        mount_from = self.recipe.target.mount_from(self.recipe.base)
        base_blobs = [
            Blob(blob, _opener(self.recipe.base, blob), mount_from) for blob in self.plan.base.manifest.layers
        ]
        packing = asyncio.Semaphore(_PACKING)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    ensure_blobs(store, base_blobs, progress=self._sending("base")), name="base layers"
                )
                if image:
                    tasks.create_task(self._send_documents(image), name="config and SBOM")
                if (mark := self._libraries_mark(pending)) and not self.cache.path(_LIBRARIES, mark).exists():
                    tasks.create_task(self._check_libraries(pending, mark), name="shared libraries")
                for layer in pending:
                    tasks.create_task(self._send(layer, packing), name=f"layer of {layer.planned.title}")
        except BaseExceptionGroup as group:
            raise first_error(group) from None

    async def _send(self, layer: _Pending, packing: asyncio.Semaphore) -> None:
        store = self.recipe.target.store
        if layer.packed:
            layer.ready.set()
            await ensure_blob(store, layer.packed.blob, self._sending(layer.planned.title))
        elif not (layer.known and await store.has_blob(layer.known.blob.digest)):
            await layer.planned.prepare()
            layer.ready.set()
            async with packing:
                layer.known = await self._pack(layer.planned, layer.known)
        layer.ready.set()

    def _libraries_mark(self, pending: Sequence[_Pending]) -> str:
        """Digest of all that decides whether the wheels find their libraries; empty without wheels."""
        if all(wheel.file.endswith("-any.whl") for wheel in self.plan.wheels):
            return ""
        keys = [each.planned.key for each in pending if not isinstance(each.planned, LargeFileLayer)]
        decides = (self.recipe.allow_missing_libraries, self._shipped_libraries(), tuple(filter(None, keys)))
        return layer_key("libraries 2", self.plan.base.digest, repr(decides))

    def _shipped_libraries(self) -> tuple[str, ...]:
        """Paths of the application's files that look like libraries, sorted."""
        return tuple(sorted(path for path, _ in self.recipe.application.files if is_library(f"/{path}")))

    async def _check_libraries(self, pending: Sequence[_Pending], mark: str) -> None:
        """Refuses an image whose wheels can't be imported; once for the same base and layers."""
        from gpuyard.building.libraries.check import check_libraries

        for layer in pending:
            await layer.ready.wait()
        planned = [layer.planned for layer in pending]
        shipped, allowed = self._shipped_libraries(), self.recipe.allow_missing_libraries
        await check_libraries(self.plan, planned, shipped, allowed, self.cache, self.environ, self.reporter)
        self.cache.write(_LIBRARIES, mark, {})

    async def _pack(self, planned: PlannedLayer, known: Layer | None) -> Layer:
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self.reporter.bytes(f"layer of {planned.title}", sent, max(sent, planned.size))

        packed = await upload_new(self.recipe.target.store, planned.pack, count)
        if known and packed != known:
            raise errors.BuildError(
                f"the layer of {planned.title} came out other than before: {packed.blob.digest}",
                remedy="a file of the cache may be damaged: remove the cache folder and build again",
            )
        remember_layer(self.cache, planned.key, packed)
        return packed

    def _sending(self, what: str) -> Callable[[Digest, int, int], None]:
        return lambda digest, done, total: self.reporter.bytes(f"{what} layer {digest[7:19]}", done, total)

    def _image(self, pending: Sequence[_Pending], compiler: Compiler | None) -> BuiltImage:
        plan = self.plan
        layers = [(layer.planned, layer.known) for layer in pending if layer.known]
        assert len(layers) == len(pending), "each layer is known or was made"
        config = image_config(
            plan.base,
            plan.contents,
            plan.environment,
            [(planned.holds, layer) for planned, layer in layers],
            plan.wheels,
            workdir=self.recipe.workdir,
            command=self.recipe.command,
            created=self.recipe.created,
            env=self.recipe.env,
            labels=self.recipe.labels,
        ).to_bytes()
        annotations = image_annotations(
            self.recipe.base.text,
            plan.base.digest,
            created=self.recipe.created,
            compression=self.recipe.compression.name,
            byte_code=str(compiler or ""),
        )
        manifest = Manifest(
            config=Descriptor.for_bytes(OCI_CONFIG, config),
            layers=(
                *(blob.as_oci() for blob in plan.base.manifest.layers),
                *(layer.blob for _, layer in layers),
            ),
            annotations=annotations,
        )
        made = tuple((planned.title, layer) for planned, layer in layers)
        return BuiltImage(config, manifest.to_bytes(), annotations, made)

    async def _send_documents(self, image: BuiltImage) -> None:
        """Config and SBOM; the SBOM may name an image that comes later, and the image comes last."""
        store = self.recipe.target.store
        plan = self.plan
        sbom = cyclonedx(
            self.recipe.base.text, plan.base.digest, plan.contents.packages, plan.lock, plan.projects
        )

        async def attach() -> None:
            blobs = ((MEDIA_TYPE, sbom), (OCI_EMPTY, EMPTY))
            await ensure_blobs(store, [descriptor_of(kind, content)[1] for kind, content in blobs])
            await store.put_manifest(sbom_manifest(sbom, image.manifest).to_bytes(), OCI_MANIFEST)

        config = descriptor_of(OCI_CONFIG, image.config_json)[1]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ensure_blob(store, config), name="config")
                tasks.create_task(attach(), name="SBOM")
        except BaseExceptionGroup as group:
            raise first_error(group) from None


def _opener(place: Place, blob: Descriptor) -> Callable[[], AsyncIterator[bytes]]:
    return lambda: place.store.open_blob(blob)
