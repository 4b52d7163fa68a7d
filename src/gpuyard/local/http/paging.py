"""Lists read in pieces: `limit`, `continue` and `resourceVersion`.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gpuyard import errors
from gpuyard.local.http.answers import Page
from gpuyard.local.http.request import Request, ResourcePath
from gpuyard.local.objects.kinds.fields import forbidden, invalid_options, unsupported
from gpuyard.local.objects.parameters import parse_version
from gpuyard.local.objects.selection import parse_selection
from gpuyard.local.objects.verbs import ObjectApi

#: Lists that are being read in pieces at the same time; the one untouched for longest goes first.
_KEPT = 16

_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You must start a new "
    "list without the continue parameter."
)


@dataclass(frozen=True)
class _WholeList:
    """The whole answer to one list; the bytes are shared with the store."""

    path: str
    values: Sequence[bytes]
    revision: int
    selected: bool


class Pager:
    """Answers lists. All pieces of one list are of one revision, held in memory until they are read.

    A token that is too old, or from before a restart, is Gone, and the client lists anew.
    """

    def __init__(self, api: ObjectApi) -> None:
        self._api = api
        self._snapshots: OrderedDict[int, _WholeList] = OrderedDict()
        self._next_id = 0

    def page(self, target: ResourcePath, request: Request) -> Page:
        """The piece that a request asks for.

        Raises:
            BadRequest, Invalid: a query parameter is wrong.
            Gone, Timeout: the resourceVersion asked for is past or still to come.
        """
        limit = request.number("limit") or 0
        if token := request.query.get("continue"):
            if request.query.get("resourceVersion", "0") not in ("", "0"):
                raise errors.BadRequest("specifying resource version is not allowed when using continue")
            number, start = _read_token(token)
            snapshot = self._snapshots.get(number)
            if snapshot is None or snapshot.path != request.path:
                raise errors.Gone(_EXPIRED)
            if not 0 <= start <= len(snapshot.values):
                raise errors.BadRequest(
                    "invalid continue token: continue key is not valid: it begins outside the list"
                )
            self._snapshots.move_to_end(number)
        else:
            number, start, snapshot = 0, 0, self._take(target, request)
        values = snapshot.values[start : start + limit] if limit else snapshot.values[start:]
        remaining = len(snapshot.values) - start - len(values)
        if not remaining:
            self._snapshots.pop(number, None)
            return Page(values, snapshot.revision)
        if not number:
            number = self._keep(snapshot)
        following = _write_token(number, start + len(values))
        return Page(values, snapshot.revision, following, None if snapshot.selected else remaining)

    def _take(self, target: ResourcePath, request: Request) -> _WholeList:
        query = request.query
        selection = parse_selection(
            target.spec, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        items, revision = self._api.list_raw(target.spec, target.namespace, selection)
        _check_version(query.get("resourceVersion", ""), query.get("resourceVersionMatch", ""), revision)
        return _WholeList(request.path, [item.value for item in items], revision, not selection.is_empty)

    def _keep(self, snapshot: _WholeList) -> int:
        self._next_id += 1
        self._snapshots[self._next_id] = snapshot
        if len(self._snapshots) > _KEPT:
            self._snapshots.popitem(last=False)
        return self._next_id


def _check_version(version: str, match: str, current: int) -> None:
    """What is served is always the current state: that serves NotOlderThan, and Exact for this revision."""
    if match not in ("", "Exact", "NotOlderThan"):
        supported = ("Exact", "NotOlderThan", "")
        raise invalid_options("ListOptions", unsupported("resourceVersionMatch", match, supported))
    if match and not version:
        detail = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid_options("ListOptions", forbidden("resourceVersionMatch", detail))
    if not version:
        return
    wanted = parse_version(version)
    if wanted > current:
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise errors.Timeout(
            f"Timeout: Too large resource version: {wanted}, current: {current}",
            details={"causes": [cause], "retryAfterSeconds": 1},
        )
    if match == "Exact" and wanted == 0:
        detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise invalid_options("ListOptions", forbidden("resourceVersionMatch", detail))
    if match == "Exact" and wanted != current:
        raise errors.Gone(
            f"The resourceVersion for the provided list is too old: {wanted}, current: {current}"
        )


def _write_token(number: int, start: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([number, start])).decode()


def _read_token(token: str) -> tuple[int, int]:
    try:
        number, start = orjson.loads(base64.urlsafe_b64decode(token))
        return int(number), int(start)
    except (binascii.Error, ValueError, TypeError) as error:
        raise errors.BadRequest(f"invalid continue token: continue key is not valid: {error}") from error
