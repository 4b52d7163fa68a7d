"""What a registry can do wrong on the way, and that nothing is sent twice or left half done."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.oci import Descriptor
from gpuyard.images.registry import answers, uploads
from gpuyard.images.registry.credentials import Credentials
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.settings import RegistrySettings
from gpuyard.images.transfer import Blob, Transferred, ensure_blobs
from tests.registry.conftest import Connect, Pauses, content_of, push_image, push_stream, read, ref
from tests.registry.fake import FakeRegistry, Fault, Response
from tests.waiting import until_async

_CHUNK = 1 << 16
_LAYER = os.urandom(5 * _CHUNK + 77)
_BLOB = Descriptor.for_bytes(oci.OCI_LAYER, _LAYER)


async def _put(fake: FakeRegistry, connect: Connect, **settings: object) -> None:
    store = connect(chunk_bytes=_CHUNK, **settings).repository(ref(fake.name), push=True)
    await store.put_blob(_BLOB.digest, _BLOB.size, content_of(_LAYER, 10_000))
    assert fake.blobs["a", _BLOB.digest] == _LAYER


async def test_a_large_blob_goes_in_chunks_and_a_small_one_in_one_request(
    fake: FakeRegistry, connect: Connect
) -> None:
    await _put(fake, connect)
    assert fake.log == [
        "POST /v2/a/blobs/uploads/",
        *["PATCH /v2/a/blobs/uploads/1"] * 5,
        "PUT /v2/a/blobs/uploads/1",
    ]
    fake.log.clear()
    await connect().repository(ref(fake.name)).put_blob(oci.digest_of(b"x"), 1, content_of(b"x"))
    assert fake.log == ["POST /v2/a/blobs/uploads/", "PUT /v2/a/blobs/uploads/2"]


@pytest.mark.parametrize("keep", [0, 2, 1000, _CHUNK])
async def test_a_cut_chunk_is_resumed_where_the_registry_has_it(
    fake: FakeRegistry, connect: Connect, keep: int
) -> None:
    fake.faults = [Fault("PATCH", 1, keep=0), Fault("PATCH", 1, keep=keep), Fault("PATCH", 1, keep=2)]
    await _put(fake, connect)
    assert fake.count("POST") == 1
    assert fake.count("GET /v2/a/blobs/uploads/1") == 3


async def test_one_byte_that_arrived_is_not_mistaken_for_none(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PATCH", 1, keep=1)]
    await _put(fake, connect)
    assert fake.count("POST") == 2


async def test_a_chunk_that_arrived_unseen_is_not_sent_again(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PATCH", 1, after=True)]
    await _put(fake, connect)
    assert fake.count("PATCH") == 5


async def test_an_upload_begins_anew_where_the_registry_cannot_tell(
    fake: FakeRegistry, connect: Connect
) -> None:
    fake.status_known = False
    fake.faults = [Fault("PATCH", 1, keep=1000)]
    await _put(fake, connect)
    assert fake.count("POST") == 2


async def test_a_stream_begins_anew_when_its_upload_is_lost(fake: FakeRegistry, connect: Connect) -> None:
    fake.status_known = False
    fake.faults = [Fault("PATCH", 1, keep=1000)]
    store = connect(chunk_bytes=_CHUNK).repository(ref(fake.name), push=True)
    blob = await push_stream(store, _LAYER)
    assert gzip.decompress(fake.blobs["a", blob.digest]) == _LAYER


async def test_a_commit_whose_answer_was_lost_counts(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PUT", 1, after=True)]
    await _put(fake, connect)
    assert fake.count("PUT") == 1


async def test_a_cut_commit_is_repeated_with_what_is_missing(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PUT", 1, keep=10)]
    await _put(fake, connect)
    assert fake.count("PUT") == 2


async def test_smaller_chunks_are_tried_when_one_is_too_large(fake: FakeRegistry, connect: Connect) -> None:
    layer = os.urandom(9 << 20)
    fake.most_chunk = 2 << 20
    store = connect(chunk_bytes=4 << 20).repository(ref(fake.name), push=True)
    await store.put_blob(oci.digest_of(layer), len(layer), content_of(layer))
    assert fake.blobs["a", oci.digest_of(layer)] == layer


async def test_a_registry_may_ask_for_larger_chunks(fake: FakeRegistry, connect: Connect) -> None:
    location = {"Location": "/v2/a/blobs/uploads/9", "OCI-Chunk-Min-Length": str(3 * _CHUNK)}
    fake.uploads["9"] = b""
    fake.faults = [Fault("POST", 1, answer=Response(202, location))]
    await _put(fake, connect)
    assert fake.count("PATCH") == 1


async def test_busy_answers_are_waited_for_as_asked(
    fake: FakeRegistry, connect: Connect, pauses: Pauses
) -> None:
    fake.faults = [
        Fault("HEAD", 1, answer=Response(429, {"Retry-After": "7"})),
        Fault("HEAD", 2, answer=Response(503)),
        Fault("PATCH", 1, answer=Response(429, {"Retry-After": "3"})),
        Fault("PUT", 1, answer=Response(502)),
    ]
    store = connect().repository(ref(fake.name), push=True)
    assert not await store.has_blob(_BLOB.digest)
    assert pauses == [7.0, 0.2, 0.4]
    await _put(fake, connect)
    assert pauses[3:] == [3.0, 0.1]


async def test_a_pause_ends_at_a_date_too(pauses: Pauses) -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    http = RegistryHttp(RegistrySettings(), sleep=pauses.sleep, jitter=lambda: 0.0, now=lambda: now)
    assert await http.pause(1, {"retry-after": "Thu, 01 Jan 2026 12:00:09 GMT"})
    assert not await http.pause(1, {"retry-after": "Thu, 01 Jan 2026 12:05:00 GMT"})
    assert pauses == [9.0]


async def test_a_registry_that_stays_busy_is_given_up(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("HEAD", 99, answer=Response(429, {"Retry-After": "3600"}))]
    with pytest.raises(errors.RegistryUnavailable, match="rate limit"):
        await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)
    assert len(fake.log) == 1
    fake.faults = [Fault("HEAD", 99, answer=Response(503))]
    with pytest.raises(errors.RegistryUnavailable, match="answered 503"):
        await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)
    assert len(fake.log) == 6


async def test_a_cut_download_goes_on_where_it_stopped(fake: FakeRegistry, connect: Connect) -> None:
    fake.blobs["a", _BLOB.digest] = _LAYER
    fake.faults = [Fault("GET", 1, send=100_000), Fault("GET", 1, keep=0), Fault("GET", 1, send=50_000)]
    assert await read(connect().repository(ref(fake.name)), _BLOB) == _LAYER
    ranges = [r.headers.get("range") for r in fake.requests]
    assert ranges[0] is None
    assert all(r and r.startswith("bytes=") for r in ranges[1:])


async def test_other_content_than_asked_for_is_refused(fake: FakeRegistry, connect: Connect) -> None:
    store = connect().repository(ref(fake.name))
    for wrong in (b"?" * len(_LAYER), _LAYER[:-1], _LAYER + b"?", b""):
        fake.blobs["a", _BLOB.digest] = wrong
        with pytest.raises(errors.ImageDamaged, match=r"reading .*/a@sha256"):
            await read(store, _BLOB)
    manifest = oci.Index(()).to_bytes()
    fake.manifests["a", oci.digest_of(b"other")] = (oci.OCI_INDEX, manifest)
    with pytest.raises(errors.ImageDamaged, match="instead of"):
        await store.get_manifest(oci.digest_of(b"other"))


async def test_content_that_is_not_its_digest_never_arrives(fake: FakeRegistry, connect: Connect) -> None:
    store = connect().repository(ref(fake.name), push=True)
    with pytest.raises(errors.ImageDamaged, match="what arrived is not"):
        await store.put_blob(_BLOB.digest, 3, content_of(b"abc"))
    with pytest.raises(errors.ImageDamaged, match="should have 4 bytes and has 3"):
        await store.put_blob(oci.digest_of(b"abc"), 4, content_of(b"abc"))
    assert not fake.blobs
    assert not fake.uploads


@pytest.mark.parametrize("uses", [1, 2])
async def test_tokens_are_renewed_in_the_middle_of_a_push(
    fake: FakeRegistry, connect: Connect, uses: int
) -> None:
    fake.token_uses = uses
    await _put(fake, connect)
    await push_image(connect().repository(ref(fake.name), push=True), b"layer")
    assert fake.count("/token") >= 4
    scopes = [r.query["scope"] for r in fake.requests if r.path == "/token"]
    assert scopes[0] == ["repository:a:pull,push"]


async def test_a_token_is_fetched_once_and_again_before_it_ends(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses, fake.expires_in = 1000, 100
    client, now = connect(), [0.0]
    client._clock = lambda: now[0]
    store = client.repository(ref(fake.name), push=True)
    for moment, tokens in ((0, 1), (89, 1), (91, 2), (91, 2)):
        now[0] = moment
        await store.has_blob(_BLOB.digest)
        assert fake.count("/token") == tokens
    # Only the very first request came without a token.
    assert sum("authorization" not in r.headers for r in fake.requests if r.path != "/token") == 1


async def test_parallel_requests_share_one_token(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses = 1000
    store = connect().repository(ref(fake.name), push=True)
    pieces = [bytes([n]) for n in range(8)]
    blobs = [Blob(Descriptor.for_bytes(oci.OCI_LAYER, p), content_of(p)) for p in pieces]
    seen: dict[str, int] = {}
    outcomes = await ensure_blobs(store, blobs, progress=lambda digest, done, _: seen.update({digest: done}))
    assert set(outcomes.values()) == {Transferred.UPLOADED}
    assert fake.count("/token") == 1
    assert list(seen.values()) == [1] * 8
    assert set((await ensure_blobs(store, blobs)).values()) == {Transferred.PRESENT}


async def test_mounts_ask_for_the_right_to_read_the_source(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses = 1000
    fake.blobs["b", _BLOB.digest] = _LAYER
    store = connect().repository(ref(fake.name), push=True)
    outcomes = await ensure_blobs(store, [Blob(_BLOB, content_of(b"never read"), mount_from="b")])
    assert outcomes == {_BLOB.digest: Transferred.MOUNTED}
    tokens = [r.query["scope"] for r in fake.requests if r.path == "/token"]
    assert "repository:b:pull" in tokens[-1]
    assert "repository:a:pull,push" in tokens[-1]


@pytest.mark.parametrize("answer", [None, Response(400), Response(401), Response(403), Response(500)])
async def test_a_refused_mount_becomes_an_upload(
    fake: FakeRegistry, connect: Connect, answer: Response | None
) -> None:
    store = connect().repository(ref(fake.name), push=True)
    if answer:
        fake.faults = [Fault("POST", 1, answer=answer)]
    outcomes = await ensure_blobs(store, [Blob(_BLOB, content_of(_LAYER), mount_from="b")])
    assert outcomes == {_BLOB.digest: Transferred.UPLOADED}
    assert not fake.uploads


async def test_a_blob_that_fails_is_named(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PUT /v2/a/blobs", 1, answer=Response(403))]
    with pytest.raises(errors.ImageUnauthorized, match="doesn't allow it"):
        await ensure_blobs(connect().repository(ref(fake.name), push=True), [Blob(_BLOB, content_of(_LAYER))])


async def test_secrets_stay_out_of_messages(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses, fake.user = 1, "me:right"
    known = Credentials("me", "hunter2")
    with pytest.raises(errors.ImageUnauthorized, match="getting a token") as caught:
        await connect(known).repository(ref(fake.name)).has_blob(_BLOB.digest)
    told = f"{caught.value} {caught.value.remedy} {caught.value!r} {known}"
    assert "hunter2" not in told
    assert "Basic" not in told
    assert "docker login" in caught.value.remedy


async def test_storage_behind_a_redirect_gets_no_credentials(fake: FakeRegistry, connect: Connect) -> None:
    storage = FakeRegistry()
    await storage.start()
    try:
        storage.blobs["a", _BLOB.digest] = fake.blobs["a", _BLOB.digest] = _LAYER
        fake.token_uses, fake.redirect = 1000, f"http://{storage.name}"
        assert await read(connect().repository(ref(fake.name)), _BLOB) == _LAYER
        assert all("authorization" not in request.headers for request in storage.requests)
        fake.redirect = "http://storage.example"
        with pytest.raises(errors.RegistryError, match="without encryption"):
            await read(connect().repository(ref(fake.name)), _BLOB)
    finally:
        await storage.stop()


@pytest.mark.parametrize(
    "credentials",
    [Credentials("me", "hunter2"), Credentials(identity_token="hunter2")],
    ids=["basic", "token"],
)
async def test_a_token_server_that_redirects_elsewhere_takes_no_credentials_along(
    fake: FakeRegistry, connect: Connect, credentials: Credentials
) -> None:
    other = FakeRegistry()
    await other.start()
    try:
        fake.token_uses = 1000
        away = Response(307, {"Location": f"http://{other.name}/token"})
        fake.faults = [Fault("/token", 1, answer=away)]
        with pytest.raises(
            errors.RegistryError, match=f"sends a request with credentials on to {other.name}"
        ):
            await connect(credentials).repository(ref(fake.name)).has_blob(_BLOB.digest)
        assert not other.log
    finally:
        await other.stop()


async def test_storage_behind_a_redirect_names_nobody_who_gets_the_credentials(
    fake: FakeRegistry, connect: Connect
) -> None:
    storage = FakeRegistry()
    await storage.start()
    try:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{storage.name}/token",service="mine"'}
        storage.faults = [Fault("blobs", 1, answer=Response(401, challenge))]
        fake.blobs["a", _BLOB.digest] = _LAYER
        fake.redirect = f"http://{storage.name}"
        known = connect(Credentials("me", "hunter2"))
        with pytest.raises(errors.ImageUnauthorized):
            await read(known.repository(ref(fake.name)), _BLOB)
        assert await known.repository(ref(fake.name)).find_manifest("v1") is None
        assert storage.log == [f"GET /v2/a/blobs/{_BLOB.digest}"]
    finally:
        await storage.stop()


async def test_a_web_page_is_no_manifest(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("GET", 1, answer=Response(200, {"Content-Type": "text/html"}, b"<html>"))]
    with pytest.raises(errors.RegistryError, match=f"reading {fake.name}/a:v1: .* answered with a web page"):
        await connect().repository(ref(fake.name)).get_manifest("v1")


@pytest.mark.parametrize("realm", ["http://[::bad/x:y", "https://h:99999/token", "http://h/\x01", "/token"])
async def test_a_token_servers_address_that_is_none_is_said(
    fake: FakeRegistry, connect: Connect, realm: str
) -> None:
    fake.faults = [Fault("HEAD", 1, answer=Response(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}))]
    with pytest.raises(errors.RegistryError):
        await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)


async def test_a_token_that_no_header_can_carry_is_not_sent(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses = 1000
    fake.faults = [Fault("/token", 1, answer=Response(200, {}, '{"token": "hünter2"}'.encode()))]
    with pytest.raises(errors.RegistryError, match="can't be read") as caught:
        await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)
    assert "nter2" not in str(caught.value)


async def test_an_uploads_address_that_is_none_is_said(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("POST", 1, answer=Response(202, {"Location": "http://h:bad/x"}))]
    with pytest.raises(errors.RegistryError, match=f"{fake.name} names an address that can't be one"):
        await _put(fake, connect)


async def test_a_pause_that_is_no_number_is_none(
    fake: FakeRegistry, connect: Connect, pauses: Pauses
) -> None:
    fake.faults = [Fault("HEAD", 1, answer=Response(429, {"Retry-After": "²"}))]
    assert not await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)
    assert len(pauses) == 1


async def test_an_answer_without_an_end_is_given_up(
    fake: FakeRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_LONGEST_ANSWER_S", 0.05)
    fake.faults = [Fault("GET", 5, answer=Response(200, {"Content-Length": "1000"}, b"{"))]
    with pytest.raises(errors.RegistryUnavailable, match=r"1 bytes came in 0 s, no end"):
        await connect().repository(ref(fake.name)).get_manifest("v1")


async def test_a_host_that_was_never_there_is_not_tried_again(connect: Connect, pauses: Pauses) -> None:
    with pytest.raises(errors.RegistryUnavailable, match=r"127.0.0.1:1 doesn't answer") as caught:
        await connect().repository(ref("127.0.0.1:1")).has_blob(_BLOB.digest)
    assert "network" in caught.value.remedy
    assert not pauses


@pytest.mark.parametrize(
    ("registry", "why"),
    [
        ("127.0.0.1:1", r"nothing listens there \(connection refused\)"),
        ("registry.invalid", r"its name can't be resolved \("),
    ],
)
async def test_a_host_that_cannot_be_reached_says_why(connect: Connect, registry: str, why: str) -> None:
    with pytest.raises(errors.RegistryUnavailable, match=f"{registry} doesn't answer: {why}"):
        await connect().repository(ref(registry)).has_blob(_BLOB.digest)


async def test_a_cut_first_connection_is_tried_again(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("HEAD", 2, keep=0)]
    assert not await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)


async def test_proxies_are_for_others_than_loopback(
    fake: FakeRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FakeRegistry()
    await proxy.start()
    try:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.name}")
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert not await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)
        assert not proxy.log
        away = connect(plain_http=frozenset({"registry.example"}))
        assert not await away.repository(ref("registry.example")).has_blob(_BLOB.digest)
        assert proxy.log == [f"HEAD /v2/a/blobs/{_BLOB.digest}"]
    finally:
        await proxy.stop()


async def test_a_proxy_that_is_none_is_said_with_its_variable(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:port")
    with pytest.raises(errors.UsageError, match="HTTPS_PROXY is 'http://proxy:port'"):
        await connect().repository(ref("registry.example")).has_blob(_BLOB.digest)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@127.0.0.1:1")
    with pytest.raises(errors.RegistryUnavailable, match=r"through the proxy http://…@127.0.0.1:1: "):
        await connect().repository(ref("registry.example")).has_blob(_BLOB.digest)


async def test_hosts_without_a_proxy_are_written_in_any_form(
    fake: FakeRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "[fe80::1]:5000,fe80::/10,foo:bar")
    assert not await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)


_SLOW = {"Retry-After": "5400"}
_SAID = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}'


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("pattern", "work"),
    [
        ("HEAD .*/blobs/", "look"),
        ("GET .*/blobs/", "read"),
        ("POST", "push"),
        ("PATCH", "push"),
        ("PUT", "push"),
    ],
)
@pytest.mark.parametrize("headers", [{}, _SLOW], ids=["soon", "much later"])
async def test_a_rate_limit_is_named_with_who_is_limited_and_until_when(
    fake: FakeRegistry, connect: Connect, pattern: str, work: str, known: bool, headers: dict[str, str]
) -> None:
    fake.token_uses, fake.user = 99, "me:hunter2" if known else ""
    if work == "read":
        fake.blobs["a", _BLOB.digest] = _LAYER
    fake.faults = [Fault(pattern, 99, answer=Response(429, headers, _SAID))]
    client = connect(Credentials("me", "hunter2") if known else None, chunk_bytes=_CHUNK)
    store = client.repository(ref(fake.name), push=True)
    await store.find_manifest("v1")  # so that it is known who we are
    works: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "look": lambda: store.has_blob(_BLOB.digest),
        "read": lambda: read(store, _BLOB),
        "push": lambda: store.put_blob(_BLOB.digest, _BLOB.size, content_of(_LAYER)),
    }
    with pytest.raises(errors.RegistryUnavailable) as caught:
        await works[work]()
    message, remedy = caught.value.message, caught.value.remedy
    assert f"{fake.name} takes no more requests for now (429, a rate limit)" in message
    assert ("as me" if known else "you aren't logged in there") in message
    assert ("docker login" in remedy) != known
    assert ("in 2h" in remedy) == bool(headers)
    assert ("TOOMANYREQUESTS: pull rate limit" in message) == (work != "look")  # a HEAD's answer has no words
    assert fake.count(pattern) == (1 if headers else 5)


async def test_the_limit_of_a_token_server(fake: FakeRegistry, connect: Connect) -> None:
    fake.token_uses = 1
    fake.faults = [Fault("GET /token", 99, answer=Response(429, _SLOW))]
    with pytest.raises(errors.RegistryUnavailable, match=r"getting a token .*a rate limit.*aren't logged in"):
        await connect().repository(ref(fake.name)).has_blob(_BLOB.digest)


async def test_a_chunk_that_never_arrives_says_why(fake: FakeRegistry, connect: Connect) -> None:
    fake.faults = [Fault("PATCH", 99, keep=0)]
    with pytest.raises(errors.RegistryUnavailable, match=r"uploading to .*: 127.0.0.1:\d+ doesn't answer"):
        await _put(fake, connect)
    fake.faults = [Fault("PUT", 99, answer=Response(503))]
    with pytest.raises(errors.RegistryUnavailable, match=r"uploading to .*: 127.0.0.1:\d+ answered 503"):
        await _put(fake, connect)


async def test_an_upload_that_is_given_up_is_dropped_once_its_chunk_has_arrived(
    fake: FakeRegistry, connect: Connect
) -> None:
    """docker-registry drops none that has more than it told of: it would stay for a week."""
    answer = asyncio.Event()
    fake.faults = [Fault("PATCH", hold=answer)]
    upload = asyncio.create_task(_put(fake, connect))
    await until_async(lambda: fake.hanging, "a chunk arrives")
    upload.cancel()
    still, _ = await asyncio.wait([upload], timeout=0)
    answer.set()
    assert still == set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert fake.uploads == {} and fake.count("DELETE") == 1


async def test_a_chunk_without_an_answer_is_not_waited_for(
    fake: FakeRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_SETTLE_S", 0.05)
    fake.faults = [Fault("PATCH", hang=True)]
    upload = asyncio.create_task(_put(fake, connect))
    await until_async(lambda: fake.hanging, "a chunk arrives")
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
