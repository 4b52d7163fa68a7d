"""One platform's image: its layers made and sent where they aren't, then config, SBOM and manifest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.building.application import Application
from gpuyard.building.environment import LAUNCHER, UID, home_entries
from gpuyard.building.image_config import image_annotations, image_config
from gpuyard.building.layer_upload import PackedFile, descriptor_of, upload_new
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.building.plan import PlatformPlan, Reporter
from gpuyard.building.python.byte_code import Compiler, compile_wheel, find_compiler
from gpuyard.building.python.wheel_layers import MOST_LAYERS, WheelLayer, group_wheels
from gpuyard.building.python.wheels import Wheel, WheelFetcher, missing_wheels, wheel_path
from gpuyard.building.sbom import EMPTY, MEDIA_TYPE, cyclonedx, sbom_manifest
from gpuyard.images.cache import Cache
from gpuyard.images.layers import Compression, Entry, Layer, Packer, with_parents
from gpuyard.images.oci import OCI_CONFIG, OCI_EMPTY, OCI_MANIFEST, Descriptor, Digest, Manifest
from gpuyard.images.places import Place
from gpuyard.images.transfer import Blob, ensure_blob, ensure_blobs

_LAUNCHER_FILE = Path(__file__).parent.parent / "launcher.py"
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
        wheel_layers = self._wheel_layers(compiler)
        async with self._packed_application() as application:
            known = {layer: found for layer in wheel_layers if (found := layer.known(self.cache))}
            image = None
            if len(known) == len(wheel_layers):
                image = self._image(wheel_layers, known, application.layer, compiler)
                if await self.recipe.target.store.find_manifest(image.manifest.digest):
                    return replace(image, unchanged=True)
            known |= await self._send_layers(wheel_layers, known, application, compiler, image)
        if image is None:
            image = self._image(wheel_layers, known, application.layer, compiler)
            await self._send_documents(image)
        return image

    async def _find_compiler(self) -> Compiler | None:
        if not self.recipe.byte_code or not self.plan.lock.wheels:
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

    def _wheel_layers(self, compiler: Compiler | None) -> list[WheelLayer]:
        # One layer is the application's.
        left = MOST_LAYERS - len(self.plan.base.manifest.layers) - 1
        if left < 1:
            raise errors.BuildError(
                f"the base has {MOST_LAYERS - 1 - left} layers, and an image can have {MOST_LAYERS}",
                remedy="flatten the base: `gpuyard image import` makes one layer of a root file system",
            )
        version = compiler.version if compiler else ""
        return [
            WheelLayer(group, self.plan.environment, version, self.recipe.created, self.recipe.compression)
            for group in group_wheels(self.plan.lock.wheels, left)
        ]

    @asynccontextmanager
    async def _packed_application(self) -> AsyncIterator[PackedFile]:
        entries = [
            *home_entries(self.plan.contents.passwd),
            *self.plan.environment.entries(),
            Entry.of_bytes(LAUNCHER.strip("/"), _LAUNCHER_FILE.read_bytes()),
            *self.recipe.application.entries(self.recipe.workdir, UID),
        ]
        packed = await PackedFile.pack(
            Packer.of_entries(with_parents(entries), self.recipe.created, self.recipe.compression), self.cache
        )
        try:
            yield packed
        finally:
            packed.close()

    async def _send_layers(
        self,
        wheel_layers: Sequence[WheelLayer],
        known: Mapping[WheelLayer, Layer],
        application: PackedFile,
        compiler: Compiler | None,
        image: BuiltImage | None,
    ) -> dict[WheelLayer, Layer]:
        """Has every layer in the store, and the image's documents when they are known already.

        Returns:
            The layers of wheels that were made for the first time.
        """
        mount_from = self.recipe.target.mount_from(self.recipe.base)
        base_blobs = [
            Blob(blob, _opener(self.recipe.base, blob), mount_from) for blob in self.plan.base.manifest.layers
        ]
        made: dict[WheelLayer, Layer] = {}
        packing = asyncio.Semaphore(_PACKING)

        async def wheels(layer: WheelLayer) -> None:
            found = known.get(layer)
            if found and await self.recipe.target.store.has_blob(found.blob.digest):
                return
            codes = await self._prepare(layer.wheels, compiler)
            async with packing:
                made[layer] = await self._send_wheels(layer, found, codes)

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    ensure_blobs(self.recipe.target.store, base_blobs, progress=self._sending("base")),
                    name="base layers",
                )
                tasks.create_task(
                    ensure_blob(self.recipe.target.store, application.blob, self._sending("application")),
                    name="application layer",
                )
                if image:
                    tasks.create_task(self._send_documents(image), name="config and SBOM")
                for layer in wheel_layers:
                    tasks.create_task(wheels(layer), name=f"layer of {layer.title}")
        except* errors.GpuyardError as group:
            raise _first(group) from None
        return made

    async def _send_wheels(self, layer: WheelLayer, found: Layer | None, codes: dict[Wheel, Path]) -> Layer:
        total = sum(wheel.size for wheel in layer.wheels)
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            # Wheels are compressed better than layers are, so the total is a guess.
            self.reporter.bytes(f"layer of {layer.title}", sent, max(sent, total))

        packed = await upload_new(self.recipe.target.store, lambda: layer.pack(self.cache, codes), count)
        if found and packed != found:
            raise errors.BuildError(
                f"the layer of {layer.title} came out other than before: {packed.blob.digest}",
                remedy="a file of the cache may be damaged: remove the cache folder and build again",
            )
        layer.remember(self.cache, packed)
        return packed

    async def _prepare(self, wheels: Sequence[Wheel], compiler: Compiler | None) -> dict[Wheel, Path]:
        """Has the wheels in the cache, and their byte code; returns the latter."""
        codes: dict[Wheel, Path] = {}
        compiling = asyncio.Semaphore(os.cpu_count() or 1)

        async def compiled(wheel: Wheel) -> None:
            if compiler:
                async with compiling:
                    path = wheel_path(self.cache, wheel)
                    site = self.plan.environment.site_packages
                    codes[wheel] = await compile_wheel(self.cache, path, wheel.sha256, compiler, site)

        missing = missing_wheels(self.cache, wheels)
        sources = {wheel: self.plan.sources[wheel] for wheel in missing if wheel in self.plan.sources}
        if unknown := [wheel for wheel in missing if wheel not in sources]:
            from gpuyard.building.python.resolve import Resolver

            resolver = Resolver(self.environ, self.recipe.folder, self.plan.platform, self.plan.contents)
            sources |= await resolver.locate(unknown, self.plan.requirements)
        async with asyncio.TaskGroup() as tasks:
            for wheel in wheels:
                if wheel not in sources:
                    tasks.create_task(compiled(wheel), name=f"compile {wheel.file}")
            if sources:
                fetching = WheelFetcher(self.cache, self.environ).fetch(
                    sources,
                    then=compiled,
                    progress=lambda n, of: self.reporter.bytes("fetching wheels", n, of),
                )
                tasks.create_task(fetching, name="fetch wheels")
        self._warn_of_conflicts(wheels)
        return codes

    def _warn_of_conflicts(self, wheels: Sequence[Wheel]) -> None:
        """The base's packages aren't resolved anew: that one of them won't do shows when wheels are there."""
        from gpuyard.building.python.conflicts import unmet
        from gpuyard.building.python.platform_tags import environment

        installed = {wheel.name for wheel in self.plan.lock.wheels}
        base = {name: v for name, v in self.plan.contents.packages.items() if name not in installed}
        variables = environment(self.plan.platform, self.plan.environment.python.minor)
        for wheel in wheels:
            for text in unmet(wheel, wheel_path(self.cache, wheel), base, variables):
                self.reporter.say(f"warning: {text}; require it yourself to have it installed")

    def _sending(self, what: str) -> Callable[[Digest, int, int], None]:
        return lambda digest, done, total: self.reporter.bytes(f"{what} layer {digest[7:19]}", done, total)

    def _image(
        self,
        wheel_layers: Sequence[WheelLayer],
        known: Mapping[WheelLayer, Layer],
        application: Layer,
        compiler: Compiler | None,
    ) -> BuiltImage:
        plan = self.plan
        layers = (*((layer.title, known[layer]) for layer in wheel_layers), ("application", application))
        config = image_config(
            plan.base,
            plan.contents,
            plan.environment,
            [*((layer.holds, known[layer]) for layer in wheel_layers), layers[-1]],
            plan.lock.wheels,
            workdir=self.recipe.workdir,
            command=self.recipe.command,
            created=self.recipe.created,
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
        return BuiltImage(config, manifest.to_bytes(), annotations, layers)

    async def _send_documents(self, image: BuiltImage) -> None:
        """Config and SBOM; the SBOM may name an image that comes later, and the image comes last."""
        store = self.recipe.target.store
        plan = self.plan
        sbom = cyclonedx(self.recipe.base.text, plan.base.digest, plan.contents.packages, plan.lock.wheels)
        blobs = ((OCI_CONFIG, image.config_json), (MEDIA_TYPE, sbom), (OCI_EMPTY, EMPTY))
        await ensure_blobs(store, [descriptor_of(kind, content)[1] for kind, content in blobs])
        await store.put_manifest(sbom_manifest(sbom, image.manifest).to_bytes(), OCI_MANIFEST)


def _opener(place: Place, blob: Descriptor) -> Callable[[], AsyncIterator[bytes]]:
    return lambda: place.store.open_blob(blob)


def _first(group: BaseExceptionGroup[errors.GpuyardError]) -> errors.GpuyardError:
    """The error that stopped the others."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, errors.GpuyardError)
    return error
