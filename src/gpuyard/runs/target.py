"""Where a command goes: this machine's yard, or a context of the user's kubeconfig."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.kube.names import is_label
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.local.paths import find_paths
from gpuyard.local.yard_http import YardHttp
from gpuyard.regular_files import read_regular
from gpuyard.runs.notices import Notice, Notify, ignore

#: The name that `gpuyard use` and `--context` give the local yard.
YARD = "yard"


@dataclass(frozen=True)
class Target:
    """An open API, the namespace that names are looked up in, and whether it is the local yard."""

    api: RestApi
    namespace: str
    is_yard: bool
    #: The options of this command that said where it goes, for the commands that it tells the user of.
    options: tuple[str, ...] = ()

    async def list_visible(self, resource: Resource) -> Sequence[Manifest] | None:
        """What there is in all namespaces; None for a user who may not look, whom the scheduler will tell."""
        try:
            return (await self.api.list(resource)).items
        except errors.Forbidden:
            return None

    def command(self, *words: str) -> str:
        """`gpuyard WORDS` as the user has to type it to come to the same place."""
        return shlex.join(("gpuyard", *words, *self.options))


@contextlib.asynccontextmanager
async def open_target(
    context: str | None = None, namespace: str | None = None, notify: Notify = ignore
) -> AsyncIterator[Target]:
    """Opens the target for as long as the block runs. What still asks its API must end within the block.

    Args:
        context: name of a kubeconfig's context, or YARD; None for what `gpuyard use` chose.
        namespace: None for the context's own.
        notify: told when a yard doesn't answer yet.

    Raises:
        UsageError: there is no such context, or the namespace can't be one.
        YardStopped: the yard is meant and isn't running.
        VersionMismatch: of the block: the yard was started by another release.
        Forbidden: of the block, with what to do about it.
    """
    check_namespace(namespace)
    options = (
        *(("--context", context) if context else ()),
        *(("--namespace", namespace) if namespace else ()),
    )
    context = context or chosen_context()
    if context and context != YARD:
        from gpuyard.client.connection.kubeconfig import kubeconfig_files, load_connection

        connection = load_connection(kubeconfig_files(os.environ), context)
        async with RestApi(connection) as api:
            try:
                yield Target(api, namespace or connection.namespace, is_yard=False, options=options)
            except errors.Forbidden as error:
                _add_remedy(error)
                raise
        return
    paths = find_paths(os.environ)
    paths.check_runtime_dir()
    http = YardHttp(paths, lambda text: notify(Notice(text)))
    async with RestApi(unix_socket=paths.api_socket, http=http) as api:
        await http.connect()
        yield Target(api, namespace or "default", is_yard=True, options=options)


def goes_to_yard(context: str | None) -> bool:
    """Whether a command with this --context goes to this machine's yard."""
    return (context or chosen_context() or YARD) == YARD


def namespace_of(context: str | None, namespace: str | None) -> str:
    """The namespace where a command with these options goes, without asking anybody there.

    Raises:
        UsageError: the kubeconfig has no such context.
    """
    if namespace:
        return namespace
    context = context or chosen_context()
    if not context or context == YARD:
        return "default"
    from gpuyard.client.connection.kubeconfig import context_namespace, kubeconfig_files

    return context_namespace(kubeconfig_files(os.environ), context)


def check_namespace(namespace: str | None) -> None:
    """Raises UsageError for what can't be a namespace's name: in a path it would lead elsewhere."""
    if namespace and not is_label(namespace):
        raise errors.UsageError(
            f"{namespace!r} can't be a namespace",
            remedy="a name has lower case letters, digits and '-', such as team-a",
        )


def chosen_context() -> str:
    """What `gpuyard use` chose; empty for the yard."""
    try:
        choice = json.loads(read_regular(choice_file()))
        return str(choice["context"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.UsageError(
            f"can't read {choice_file()}: {error}", remedy="choose again: `gpuyard use yard`"
        ) from error


def choice_file() -> Path:
    """Where `gpuyard use` keeps its choice: beside the yard's data when GPUYARD_HOME is set, else with
    the user's configuration."""
    if os.environ.get("GPUYARD_HOME"):
        return find_paths(os.environ).data_dir / "context.json"
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "gpuyard" / "context.json"


def _add_remedy(error: errors.Forbidden) -> None:
    """Gives a 403 its remedy, unless it has one: the role that would allow it, or what else says no."""
    if not error.remedy:
        from gpuyard.tenancy.access import Refusal

        error.remedy = Refusal.of(error.message).remedy
