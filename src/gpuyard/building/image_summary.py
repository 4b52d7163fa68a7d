"""What can be told of an image from its manifest and config: its Python, its commit, who built it."""

from __future__ import annotations

from dataclasses import dataclass

from gpuyard import errors
from gpuyard.building.environment import ENTRYPOINT, LABEL_PYTHON
from gpuyard.building.revision import ANNOTATION as REVISION
from gpuyard.building.revision import recorded_revision
from gpuyard.images.image import Image, open_images
from gpuyard.images.places import Place


@dataclass(frozen=True)
class ImageSummary:
    """One platform's image.

    Attributes:
        python: its version as the config tells it; empty when it doesn't.
        revision: the commit that it was built of; empty when not known.
        built: whether gpuyard built it.
    """

    image: Image
    python: str
    revision: str
    built: bool


async def summarise(place: Place) -> tuple[ImageSummary, ...]:
    """The image behind a place, once per platform; attestations are left out.

    Raises:
        ImageNotFound: it isn't there.
    """
    opened = await open_images(place)
    try:
        revision = await recorded_revision(place.store, opened.digest)
    except errors.ImageError:
        # A registry may keep who reads images from what refers to them.
        revision = ""
    return tuple(_summary(image, revision) for image in opened.images)


def _summary(image: Image, revision: str) -> ImageSummary:
    container = image.config.container
    # Other builders write it into the image.
    written = image.manifest.annotations.get(REVISION, "") or container.labels.get(REVISION, "")
    return ImageSummary(
        image,
        python=container.labels.get(LABEL_PYTHON) or container.environment.get("PYTHON_VERSION", ""),
        revision=revision or written,
        built=container.entrypoint[-len(ENTRYPOINT) :] == ENTRYPOINT,
    )
