"""Options that set a key of the spec: each says where it lays its value, and nothing else knows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpuyard import errors

if TYPE_CHECKING:
    from gpuyard.workloads.spec.overrides import Flag

Function = TypeVar("Function", bound=Callable[..., Any])

#: Where a command's context keeps its flags.
_META = "gpuyard.cli.options.spec"
_ONCE = ("value", "yaml")


def spec_option(
    *declarations: str, key: str, form: str = "value", **attributes: Any
) -> Callable[[Function], Function]:
    """An option that sets a key of the spec.

    Args:
        declarations: as click has them.
        key: of the spec, such as `resources.gpus`.
        form: name of a `workloads.spec.overrides.FlagForm`, in lower case; all but `value` and `yaml` can be
            repeated; `yaml` may also be @FILE.
        attributes: more of the option's.
    """

    def keep(context: click.Context, option: click.Parameter, value: Any) -> None:
        from gpuyard.workloads.spec.overrides import Flag, FlagForm

        for text in (value,) if isinstance(value, str) else value or ():
            if form == "yaml" and text.startswith("@"):
                text = _read_text(Path(text.removeprefix("@")))
            path, shape = tuple(key.split(".")), attributes.get("metavar", "KEY=VALUE")
            flags_of(context).append(Flag(option.opts[-1], path, text, FlagForm[form.upper()], shape))

    return click.option(
        *declarations,
        cls=SpecOption,
        key=key,
        callback=keep,
        expose_value=False,
        multiple=form not in _ONCE,
        **attributes,
    )


class SpecOption(click.Option):
    """Remembers the key that it sets."""

    def __init__(self, *arguments: Any, key: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.key = key


def flags_of(context: click.Context) -> list[Flag]:
    """What the command line lays over the spec, in its order."""
    found: list[Flag] = context.meta.setdefault(_META, [])
    return found


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"can't read {file}: {error}", remedy="name a YAML or JSON file") from error
