"""The verbs on objects over HTTP: from a request to an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import get_args

import orjson

from gpuyard import errors
from gpuyard.client.log_place import LOG_FRAMES
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.timestamps import LONGEST_S, parse_time
from gpuyard.local.http.answers import Page, Response, Stream, Upgrade, list_body, object_body, success
from gpuyard.local.http.negotiation import Form, choose_form
from gpuyard.local.http.paging import Pager
from gpuyard.local.http.request import Request, ResourcePath
from gpuyard.local.http.watches import Watches
from gpuyard.local.objects.admission import FieldValidation, WriteOptions, decode, is_dry_run
from gpuyard.local.objects.deletion import orphans_by_default, parse_delete_options
from gpuyard.local.objects.kinds.fields import invalid_object, invalid_options, unsupported
from gpuyard.local.objects.kinds.kind import ServedApi, Subresource
from gpuyard.local.objects.pod_logs import PodLogOptions, PodLogs
from gpuyard.local.objects.pod_streams import PodStreams
from gpuyard.local.objects.selection import parse_selection
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.objects.writes import WrittenObject

#: For `client.log_place`: which byte of the log the answer begins with, and of which start of the container.
_LOG_OFFSET, _LOG_START = b"gpuyard-log-offset", b"gpuyard-log-start"

Answered = Response | Stream | Upgrade
_Handler = Callable[[ResourcePath, Request], Awaitable[Answered]]


class Resources:
    """Answers requests for what `parse_target` found. `logs` and `streams` are None where no kubelet runs."""

    def __init__(
        self,
        api: ObjectApi,
        watches: Watches,
        logs: PodLogs | None,
        streams: PodStreams | None,
        served: ServedApi,
    ) -> None:
        self._api = api
        self._served = served
        self._pager = Pager(api)
        self._watches = watches
        self._logs = logs
        self._pod_streams = streams
        self._verbs: dict[str, _Handler] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def answer(self, target: ResourcePath, request: Request) -> Answered:
        """Does what the request asks.

        Raises:
            ApiError: it can't be done.
        """
        verb = _verb(target, request.method)
        part = target.subresource
        if verb not in (part.verbs if part else target.spec.verbs):
            raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")
        if part is not None and part.upgrades:
            return await self._upgrade(target, part, request)
        if part is not None and part.streams:
            return await self._log(target, request)
        if part is not None and verb == "create":
            return await self._create_below(target, part, request)
        return await self._verbs[verb](target, request)

    async def _get(self, target: ResourcePath, request: Request) -> Answered:
        form = _form(request)
        if request.flag("watch"):
            return self._watches.open(target, request, form)
        stored = self._api.get_raw(target.spec, target.key)
        return Response(200, self._body(target, stored.value, form, request))

    async def _list(self, target: ResourcePath, request: Request) -> Answered:
        form = _form(request)
        if request.flag("watch"):
            return self._watches.open(target, request, form)
        page = self._pager.page(target, request)
        include = request.query.get("includeObject", "")
        return Response(200, list_body(target.spec, page, form, include, self._api.clock()))

    async def _create(self, target: ResourcePath, request: Request) -> Answered:
        form, options = _form(request), _write_options(request)
        if target.spec.review is not None:
            return self._written(target, request, form, await self._review(target, request, options), 201)
        answer = await self._api.create_raw(
            target.spec, target.namespace or "", await request.json(), options
        )
        return self._written(target, request, form, answer, 201)

    async def _review(self, target: ResourcePath, request: Request, options: WriteOptions) -> WrittenObject:
        """The question as it was asked, with what this server says to it."""
        spec = target.spec
        assert spec.review is not None
        asked, warnings = decode(spec.resource, await request.json(), options)
        if found := spec.validate(asked, None):
            raise invalid_object(spec, "", found)
        answered = {**asked, "status": spec.review(asked, self._served)}
        return WrittenObject(answered, orjson.dumps(answered), warnings)

    async def _update(self, target: ResourcePath, request: Request) -> Answered:
        form, options = _form(request), _write_options(request)
        manifest = await request.json()
        answer = await self._api.update_raw(target.spec, target.key, manifest, target.subresource, options)
        return self._written(target, request, form, answer, 200)

    async def _patch(self, target: ResourcePath, request: Request) -> Answered:
        form, options = _form(request), _write_options(request)
        patch, patch_type = await request.patch()
        answer = await self._api.patch_raw(
            target.spec, target.key, patch, patch_type, target.subresource, options
        )
        return self._written(target, request, form, answer, 200)

    async def _delete(self, target: ResourcePath, request: Request) -> Answered:
        form = _form(request)
        options = parse_delete_options(await request.json(optional=True), request.query)
        answer = await self._api.delete_raw(target.spec, target.key, options)
        if answer.gone and not target.spec.graceful:
            return success(target.spec, target.name, answer.manifest["metadata"]["uid"])
        if options.propagation is None and orphans_by_default(target.spec):
            answer = replace(answer, warnings=(_ORPHANS,))
        return self._written(target, request, form, answer, 200)

    async def _delete_collection(self, target: ResourcePath, request: Request) -> Answered:
        form = _form(request)
        options = parse_delete_options(await request.json(optional=True), request.query)
        query = request.query
        selection = parse_selection(
            target.spec, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        items, revision = self._api.list_raw(target.spec, target.namespace, selection)
        deleted: list[bytes] = []
        for item in items:
            try:
                deleted.append((await self._api.delete_raw(target.spec, item.key, options)).value)
            except errors.NotFound:
                continue
        page = Page(deleted, revision)
        return Response(200, list_body(target.spec, page, form, "", self._api.clock()))

    async def _create_below(self, target: ResourcePath, part: Subresource, request: Request) -> Answered:
        options = _write_options(request)
        answer = await self._api.create_below_raw(
            target.spec, target.key, part, await request.json(), options
        )
        return replace(success(target.spec, target.name, "", 201), warnings=answer.warnings)

    async def _log(self, target: ResourcePath, request: Request) -> Answered:
        if self._logs is None:
            raise errors.ServiceUnavailable("this server has no kubelet that keeps logs")
        options = parse_log_options(request)
        pod = orjson.loads(self._api.get_raw(target.spec, target.key).value)
        container = choose_container(pod, request.query.get("container", ""))
        log = await self._logs.open_log(pod, container, options)
        place = ((_LOG_OFFSET, b"%d" % log.offset), (_LOG_START, b"%d" % log.start))
        media_type = LOG_FRAMES.encode() if options.in_frames else b"text/plain"
        return Stream(log.pieces, media_type, place)

    async def _upgrade(self, target: ResourcePath, part: Subresource, request: Request) -> Answered:
        if self._pod_streams is None or self._logs is None:
            raise errors.ServiceUnavailable("this server has no kubelet that runs containers")
        # Its library is loaded for those who need it.
        from gpuyard.local.http.streams.requests import open_attach, open_exec, open_port_forward

        pod = orjson.loads(self._api.get_raw(target.spec, target.key).value)
        if part.name == "portforward":
            return open_port_forward(self._pod_streams, pod, request)
        container = choose_container(pod, request.query.get("container", ""))
        if part.name == "attach":
            return open_attach(self._pod_streams, self._logs, pod, container, request)
        return open_exec(self._pod_streams, pod, container, request)

    def _written(
        self, target: ResourcePath, request: Request, form: Form, answer: WrittenObject, status: int
    ) -> Response:
        body = self._body(target, answer.value, form, request)
        return Response(status, body, warnings=answer.warnings)

    def _body(self, target: ResourcePath, value: bytes, form: Form, request: Request) -> bytes:
        if target.subresource is not None and target.subresource.view is not None:
            return orjson.dumps(target.subresource.view(orjson.loads(value)))
        if form is Form.PLAIN:
            return value
        include = request.query.get("includeObject", "")
        return object_body(target.spec, value, form, include, self._api.clock())


_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
    "them or set propagationPolicy=Orphan to suppress this warning"
)


def _verb(target: ResourcePath, method: str) -> str:
    """The verb of a method; empty when there is none, as for creating without a namespace."""
    if not target.name:
        placed = target.namespace is not None or not target.spec.resource.namespaced
        verbs = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
        return verbs.get(method, "") if placed or method == "GET" else ""
    verbs = {"GET": "get", "PUT": "update", "PATCH": "patch"}
    return (verbs | {"POST": "create"} if target.subresource else verbs | {"DELETE": "delete"}).get(
        method, ""
    )


def _form(request: Request) -> Form:
    return choose_form(request.accepted())


def _write_options(request: Request) -> WriteOptions:
    query = request.query
    if not query:
        return _DEFAULT
    validation = query.get("fieldValidation") or "Warn"
    kind = {"PUT": "UpdateOptions", "PATCH": "PatchOptions"}.get(request.method, "CreateOptions")
    if validation not in get_args(FieldValidation):
        supported = ("", "Ignore", "Strict", "Warn")
        raise invalid_options(kind, unsupported("fieldValidation", validation, supported))
    return WriteOptions(is_dry_run(kind, query.get("dryRun")), validation)  # type: ignore[arg-type]


#: Over HTTP unknown fields get a warning unless the client asks for more, as on any cluster.
_DEFAULT = WriteOptions(field_validation="Warn")


def parse_log_options(request: Request) -> PodLogOptions:
    """Reads the query of a log request.

    Raises:
        BadRequest: a parameter is wrong, or asks for something that the yard doesn't serve.
    """
    if request.query.get("stream") not in (None, "", "All"):
        raise errors.BadRequest("stream: the yard keeps stdout and stderr in one log; only All is served")
    since_s, since = request.number("sinceSeconds"), request.query.get("sinceTime")
    if since_s is not None and since:
        raise errors.BadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
    try:
        moment = parse_time(since) if since else None
    except ValueError as error:
        raise errors.BadRequest(f"query parameter sinceTime: {since!r} is no time of RFC 3339") from error
    return PodLogOptions(
        follow=request.flag("follow"),
        tail_lines=request.number("tailLines"),
        limit_bytes=request.number("limitBytes"),
        since_s=None if since_s is None else min(since_s, LONGEST_S),
        since=moment,
        timestamps=request.flag("timestamps"),
        previous=request.flag("previous"),
        in_frames=request.headers.get(b"accept") == LOG_FRAMES.encode(),
    )


def choose_container(pod: Manifest, wanted: str) -> str:
    """The container that a log request means.

    Raises:
        BadRequest: it names none of the pod's, or none where the pod has several, or the pod has no node yet.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    names = [c["name"] for field in ("initContainers", "containers") for c in spec.get(field) or ()]
    if not wanted:
        main = [c["name"] for c in spec["containers"]]
        default = annotations_of(pod).get("kubectl.kubernetes.io/default-container")
        if len(main) > 1 and default not in main:
            raise errors.BadRequest(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            )
        wanted = default if default is not None and default in main else main[0]
    elif wanted not in names:
        raise errors.BadRequest(f"container {wanted} is not valid for pod {name}")
    if not spec.get("nodeName"):
        raise errors.BadRequest(f"pod {name} does not have a host assigned")
    return wanted
