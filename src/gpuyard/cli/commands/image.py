"""`gpuyard image`."""

from __future__ import annotations

from gpuyard.cli.subcommands import SubcommandGroup

command = SubcommandGroup(
    "image",
    {
        "show": "Show an image's layers, Python, torch and CUDA.",
        "check": "Say on which nodes an image will run, and why not on others.",
        "import": "Make a base image of a root file system.",
    },
    help="Look into images, check them against nodes, make base images.",
)
