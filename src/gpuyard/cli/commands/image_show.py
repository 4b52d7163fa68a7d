"""`gpuyard image show`."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard.cli.image_reading import read_image, read_layers_option
from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import output_option

if TYPE_CHECKING:
    from gpuyard.building.image_summary import ImageSummary
    from gpuyard.compatibility.facts import Facts
    from gpuyard.compatibility.need import Need


@click.command("show")
@click.argument("image")
@read_layers_option
@registry_options
@output_option()
def command(
    image: str,
    read_layers: bool,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
) -> None:
    """Show what IMAGE is made of, and what it needs of a driver.

    IMAGE is in a registry, or oci:PATH[:TAG] or oci-archive:PATH[:TAG]. Only its manifest and config are
    read, unless told otherwise.
    """
    from gpuyard.building.image_summary import summarise
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.cli.output.results import print_json
    from gpuyard.compatibility.facts import load_facts
    from gpuyard.compatibility.inspect import traits_of
    from gpuyard.compatibility.need import need_of
    from gpuyard.images.cache import Cache
    from gpuyard.images.contents.kept import kept_contents
    from gpuyard.images.places import Places

    environ = registry_environ(plain_http, registry_ca)

    async def work() -> tuple[ImageSummary, ...]:
        async with Places(environ) as places:
            return await summarise(await places.open(image))

    if read_layers:
        # What they hold is kept by digest, which is where `traits_of` looks.
        asyncio.run(read_image(image, environ, layers=True))
    facts = load_facts()
    documents = []
    cache = Cache.from_environ(environ)
    for number, shown in enumerate(asyncio.run(work())):
        known = traits_of(image, shown.image, cache)
        contents = kept_contents(shown.image.digest, cache)
        if not shown.python and contents and contents.python:
            shown = replace(shown, python=contents.python.version)
        need = need_of(known, facts)
        if output == "json":
            documents.append(_to_json(shown, need, facts))
        else:
            if number:
                click.echo()
            _print(image, shown, need, facts)
    if output == "json":
        print_json({"reference": image, "platforms": documents})


def _cuda(need: Need) -> str:
    if need.cpu_only:
        return "none: its torch is built without"
    return f"{need.cuda} (from {need.cuda_source})" if need.cuda else ""


def _driver(need: Need, facts: Facts) -> str:
    floor = facts.oldest_driver(need.cuda) if need.cuda else None
    return str(floor) if floor else ""


def _print(reference: str, shown: ImageSummary, need: Need, facts: Facts) -> None:
    from gpuyard.cli.output.results import megabytes, print_fields, print_table

    container = shown.image.config.container
    driver = _driver(need, facts)
    print_fields(
        [
            ("Image", reference),
            ("Digest", shown.image.digest),
            ("Platform", str(shown.image.platform)),
            ("Size", megabytes(shown.image.size)),
            ("Base", shown.image.base),
            ("Revision", shown.revision),
            ("Python", shown.python),
            ("torch", f"{need.torch} ({need.torch_source})" if need.torch else ""),
            ("CUDA", _cuda(need)),
            ("Driver", f"{driver} or newer (`gpuyard image check` says where it runs)" if driver else ""),
            ("User", container.user),
            ("Workdir", container.working_dir),
            ("Entry point", shlex.join(container.entrypoint)),
            ("Command", shlex.join(container.cmd)),
        ]
    )
    click.echo()
    rows = [
        (str(number), megabytes(layer.size), layer.digest[7:19], text)
        for number, (layer, text) in enumerate(shown.image.layers, 1)
    ]
    print_table(("LAYER", "SIZE", "DIGEST", "HOLDS"), rows)
    labels = [f"{name}={value}" for name, value in sorted(container.labels.items())]
    click.echo()
    print_fields([("Environment", "\n".join(container.env)), ("Labels", "\n".join(labels))])


def _to_json(shown: ImageSummary, need: Need, facts: Facts) -> dict[str, Any]:
    return {
        "platform": str(shown.image.platform),
        "digest": shown.image.digest,
        "size": shown.image.size,
        "base": shown.image.base,
        "revision": shown.revision,
        "built_by_gpuyard": shown.built,
        "python": shown.python,
        "torch": need.torch,
        "torch_source": need.torch_source,
        "torch_without_cuda": need.cpu_only,
        "cuda": str(need.cuda) if need.cuda else "",
        "oldest_driver": _driver(need, facts),
        "user": shown.image.config.container.user,
        "workdir": shown.image.config.container.working_dir,
        "entry_point": list(shown.image.config.container.entrypoint),
        "command": list(shown.image.config.container.cmd),
        "env": shown.image.config.container.environment,
        "labels": dict(shown.image.config.container.labels),
        "layers": [
            {"digest": layer.digest, "size": layer.size, "media_type": layer.media_type, "holds": text}
            for layer, text in shown.image.layers
        ],
    }
