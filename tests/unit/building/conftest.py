"""Fixtures that the tests of images have, too."""

from __future__ import annotations

from tests.unit.images.conftest import make_wheel, umask, workshop

__all__ = ["make_wheel", "umask", "workshop"]
