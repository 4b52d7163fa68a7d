"""Whose a GPU is: the domain of the resource that it is offered as (`nvidia.com/gpu`) and of its labels."""

from __future__ import annotations

NVIDIA, AMD = "nvidia.com", "amd.com"
VENDORS = frozenset({NVIDIA, AMD})
