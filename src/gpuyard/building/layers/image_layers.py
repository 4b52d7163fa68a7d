"""A build's layers above its base, the lowest first: what seldom changes lies below what often does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.environment import names_replaced
from gpuyard.building.layers.application_layer import ApplicationLayer
from gpuyard.building.layers.large_files import LargeFileLayer, group_files, large_files
from gpuyard.building.layers.planned_layer import PlannedLayer
from gpuyard.building.layers.wheel_layers import WheelLayer, WheelStock, group_wheels
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.byte_code import Compiler
from gpuyard.building.work import BuildWork
from gpuyard.building.workdir.application import Application
from gpuyard.images.layers import Compression, Entry

if TYPE_CHECKING:
    from gpuyard.building.python.wheels import Wheel

#: Container runtimes mount at most this many layers.
_MOST_LAYERS = 127


@dataclass(frozen=True)
class ImageLayers:
    """The layers of one platform's image.

    Attributes:
        application: the files of the workdir.
        file_digests: of the application's large files: SHA-256 by path.
        compiler: of wheels; None for no byte code.
    """

    plan: PlatformPlan
    application: Application
    file_digests: Mapping[str, str]
    compiler: Compiler | None
    work: BuildWork

    def planned(self) -> list[PlannedLayer]:
        """The list.

        Raises:
            BuildError: the base leaves too few layers.
        """
        below = [*self._system(), *self._removals(), *self._copies()]
        # A project's wheel is another with each edit, and shares no layer with those that aren't.
        built = [wheel for wheel in self.plan.wheels if wheel not in self.plan.lock.wheels]
        projects = [self._of_wheels((wheel,)) for wheel in built]
        left = _MOST_LAYERS - len(self.plan.base.manifest.layers) - len(below) - len(projects) - 1
        if left < 1:
            raise errors.BuildError(
                f"the base, system packages and what is copied have {_MOST_LAYERS - 1 - left} layers, and an "
                f"image can have {_MOST_LAYERS}",
                remedy="flatten the base: `gpuyard image import` makes one layer of a root file system",
            )
        # One layer is the wheels'.
        files = [self._of_files(paths) for paths in group_files(large_files(self.application), left - 1)]
        wheels = map(self._of_wheels, group_wheels(self.plan.lock.wheels, left - len(files)))
        return [*below, *wheels, *files, *projects, self._application_without(files)]

    @property
    def _packing(self) -> tuple[int, Compression]:
        return self.work.request.image.created, self.work.compression

    def _system(self) -> Iterator[PlannedLayer]:
        """One of system packages, where there are any."""
        if self.plan.lock.system_packages:
            from gpuyard.building.layers.system_layer import system_layer  # Few builds have one.

            work = self.work
            yield system_layer(
                self.plan, work.base.text, *self._packing, work.cache, work.environ, work.reporter
            )

    def _removals(self) -> Iterator[PlannedLayer]:
        """One without the files of what is installed in another version than the base brings."""
        plan = self.plan
        names = [wheel.name for wheel in plan.lock.wheels]
        names += [project.metadata.key for project in plan.projects]
        if replaced := names_replaced(plan.environment, plan.contents.packages, names):
            from gpuyard.building.layers.removal_layer import RemovalLayer

            folders = plan.contents.folders
            yield RemovalLayer(
                plan.base, folders, replaced, plan.environment, *self._packing, self.work.reporter
            )

    def _copies(self) -> Iterator[PlannedLayer]:
        request, folders = self.work.request, self.plan.contents.folders
        for each in request.copies:
            from gpuyard.building.layers.copied_layer import CopiedLayer  # Few builds need it.

            image, workdir = self.plan.copied[each.image], request.image.workdir
            yield CopiedLayer(
                each, image, folders, workdir, *self._packing, self.work.cache, self.work.reporter
            )

    @cached_property
    def _stock(self) -> WheelStock:
        work = self.work
        return WheelStock(self.plan, self.compiler, work.folder, work.cache, work.environ, work.reporter)

    def _of_wheels(self, wheels: tuple[Wheel, ...]) -> WheelLayer:
        return WheelLayer(wheels, self._stock, *self._packing)

    def _of_files(self, paths: Sequence[str]) -> LargeFileLayer:
        files, folders = self.application.only(paths), self.plan.contents.folders
        return LargeFileLayer(
            files, self.file_digests, folders, self.work.request.image.workdir, *self._packing
        )

    def _application_without(self, layers: Sequence[LargeFileLayer]) -> ApplicationLayer:
        files = self.application.without(path for layer in layers for path, _ in layer.application.files)
        workdir, projects = self.work.request.image.workdir, self._project_entries()
        return ApplicationLayer(
            files, self.plan.environment, self.plan.contents, workdir, *self._packing, projects
        )

    def _project_entries(self) -> Sequence[Entry]:
        """What installs the user's projects that no backend has built."""
        read = [project for project in self.plan.projects if not project.wheel]
        if not read:
            return ()
        from gpuyard.building.project.installed import Workdir, project_entries

        files = frozenset(path for path, _ in self.application.files)
        workdir = Workdir(self.application.root.absolute(), files, self.work.request.image.workdir)
        return [
            entry for project in read for entry in project_entries(project, workdir, self.plan.environment)
        ]
