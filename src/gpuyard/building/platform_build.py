"""One platform's image: its layers made and sent where they aren't, then config, SBOM and manifest.

1. The layers are listed (`layers/image_layers.py`), and what was packed before is known by its key.
2. When all are known, so is the image; where the store has it, there is nothing to do.
3. Else the base's layers and the new ones are sent, all at once. What isn't known yet is when it is packed.
4. Config and SBOM are sent as soon as all layers are known. The manifest is put by the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from gpuyard import errors
from gpuyard.building.documents.image_config import image_annotations, image_config
from gpuyard.building.documents.sbom import EMPTY, MEDIA_TYPE, cyclonedx, sbom_manifest
from gpuyard.building.layers.image_layers import ImageLayers
from gpuyard.building.layers.layer_upload import PackedFile, descriptor_of, upload_new
from gpuyard.building.layers.planned_layer import PlannedLayer, known_layer, remember_layer
from gpuyard.building.planning.byte_code import choose_compiler
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.byte_code import Compiler
from gpuyard.building.result import BuiltImage
from gpuyard.building.work import BuildWork
from gpuyard.building.workdir.application import Application
from gpuyard.images.layers import Layer
from gpuyard.images.oci import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Manifest,
    parse_manifest,
)
from gpuyard.images.places import Place
from gpuyard.images.transfer import Blob, Transferred, ensure_blob, ensure_blobs, first_error

#: Packing is bound by the processor; more at once would only hold more memory.
_PACKING = 2


@dataclass
class _Pending:
    """A layer on its way.

    Attributes:
        known: once it was packed, now or before.
        packed: its bytes, where they had to be packed to know it.
        present: the store had it.
        ready: set when what it is made of is on this machine, or isn't needed.
    """

    planned: PlannedLayer
    known: Layer | None = None
    packed: PackedFile | None = None
    present: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class PlatformBuild:
    """Builds for one platform; `run` once.

    Attributes:
        application: the files of the workdir.
        file_digests: of the application's large files: SHA-256 by path.
        trusting: whether a registry that has the image's manifest has all that it names.
    """

    plan: PlatformPlan
    application: Application
    file_digests: Mapping[str, str]
    work: BuildWork
    trusting: bool = True

    async def run(self) -> BuiltImage:
        """Has in the store all that the image's manifest names; the manifest is the caller's to put.

        Raises:
            ImageError: something can't be read, made or sent.
        """
        compiler = await choose_compiler(self.plan, self.work)
        layers = ImageLayers(self.plan, self.application, self.file_digests, compiler, self.work)
        pending = [_Pending(planned) for planned in layers.planned()]
        with ExitStack() as files:
            for layer in pending:
                await self._look_up(layer, files)
            image = None
            if all(layer.known for layer in pending):
                image = self._image(pending, compiler)
                if await self._is_there(image):
                    return replace(image, unchanged=True)
            await self._send_layers(pending, image)
        if image is None:
            image = self._image(pending, compiler)
            await self._send_documents(image)
        present = frozenset(layer.known.blob.digest for layer in pending if layer.known and layer.present)
        return replace(image, present=present)

    async def _is_there(self, image: BuiltImage) -> bool:
        """Whether the store has the image: a registry's blobs cost a request each."""
        target = self.work.target
        if not self.trusting or not await target.store.find_manifest(image.manifest.digest):
            return False
        if target.reference:
            return True
        manifest = parse_manifest(image.manifest_json)
        assert isinstance(manifest, Manifest), "it is of one platform"
        blobs = (manifest.config, *manifest.layers)
        return all([await target.store.has_blob(blob.digest, blob.size) for blob in blobs])

    async def _look_up(self, layer: _Pending, files: ExitStack) -> None:
        """Knows a layer by its key, where it was packed before; one without a key is packed."""
        if layer.planned.key:
            layer.known = known_layer(self.work.cache, layer.planned.key)
        else:
            layer.packed = await PackedFile.pack(layer.planned.pack(), self.work.cache)
            files.callback(layer.packed.close)
            layer.known = layer.packed.layer

    async def _send_layers(self, pending: Sequence[_Pending], image: BuiltImage | None) -> None:
        """Has every layer in the store, and the image's documents when they are known already."""
        base, target = self.work.base, self.work.target
        mount_from = target.mount_from(base)
        below = [Blob(blob, _opener(base, blob), mount_from) for blob in self.plan.base.manifest.layers]
        packing = asyncio.Semaphore(_PACKING)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    ensure_blobs(target.store, below, progress=self._sending("base")), name="base layers"
                )
                if image:
                    tasks.create_task(self._send_documents(image), name="config and SBOM")
                if self.plan.wheels:
                    tasks.create_task(self._check_libraries(pending), name="shared libraries")
                for layer in pending:
                    tasks.create_task(self._send(layer, packing), name=f"layer of {layer.planned.title}")
        except BaseExceptionGroup as group:
            raise first_error(group) from None

    async def _check_libraries(self, pending: Sequence[_Pending]) -> None:
        from gpuyard.building.libraries.image_check import check_image, check_is_due  # Only for wheels.

        planned = [layer.planned for layer in pending]
        if check_is_due(self.plan, planned, self.application, self.work):
            for layer in pending:
                await layer.ready.wait()
            await check_image(self.plan, planned, self.application, self.work)

    async def _send(self, layer: _Pending, packing: asyncio.Semaphore) -> None:
        store = self.work.target.store
        if layer.packed:
            layer.ready.set()
            done = await ensure_blob(store, layer.packed.blob, self._sending(layer.planned.title))
            layer.present = done is Transferred.PRESENT
        elif layer.known and await store.has_blob(layer.known.blob.digest, layer.known.blob.size):
            layer.present = True
        else:
            await layer.planned.prepare()
            layer.ready.set()
            async with packing:
                layer.known = await self._pack(layer.planned, layer.known)
        layer.ready.set()

    async def _pack(self, planned: PlannedLayer, known: Layer | None) -> Layer:
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self.work.reporter.bytes(f"layer of {planned.title}", sent, max(sent, planned.size))

        packed = await upload_new(self.work.target.store, planned.pack, count)
        if known and packed != known:
            raise errors.BuildError(
                f"the layer of {planned.title} came out other than before: {packed.blob.digest}",
                remedy="a file of the cache may be damaged: remove the cache folder and build again",
            )
        remember_layer(self.work.cache, planned.key, packed)
        return packed

    def _sending(self, what: str) -> Callable[[Digest, int, int], None]:
        report = self.work.reporter.bytes
        return lambda digest, done, total: report(f"{what} layer {digest[7:19]}", done, total)

    def _image(self, pending: Sequence[_Pending], compiler: Compiler | None) -> BuiltImage:
        plan, request = self.plan, self.work.request
        layers = [(layer.planned, layer.known) for layer in pending if layer.known]
        assert len(layers) == len(pending), "each layer is known or was made"
        config = image_config(
            plan.base,
            plan.contents,
            plan.environment,
            [(planned.holds, layer) for planned, layer in layers],
            plan.wheels,
            request.image,
        ).to_bytes()
        annotations = image_annotations(
            self.work.base.text,
            plan.base.digest,
            created=request.image.created,
            compression=self.work.compression.name,
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
        store = self.work.target.store
        plan = self.plan
        sbom = cyclonedx(
            self.work.base.text, plan.base.digest, plan.contents.packages, plan.lock, plan.projects
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
