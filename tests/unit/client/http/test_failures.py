"""What a client says of servers that are away, not trusted, no API or too busy: on real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpuyard import errors
from gpuyard.client.connection.credentials import Origin, Proof, masked, why_unauthorized
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http import direct_http
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import NODES
from gpuyard.local.http.server.certificates import Pki

NOW = datetime(2026, 11, 23, tzinfo=UTC)
FILE = Path("/home/ann/.kube/config")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    found = Pki(tmp_path_factory.mktemp("pki"))
    found.ensure(datetime.now(UTC))
    return found


def origin(proof: Proof = Proof.TOKEN, certificate: bytes = b"", user: str = "ann") -> Origin:
    return Origin("gpu", FILE, user, FILE, proof, certificate)


class Server:
    """Answers with one answer after the other, the last one again and again."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(1)
            self.asked += 1
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # The other side didn't like what it saw.
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes, pki: Pki | None = None) -> AsyncIterator[Server]:
    server, tls = Server(answers), None
    if pki:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pki.server_certificate, pki.server_key)
    async with await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


def says(body: object, status: int = 200, *headers: str, kind: str = "application/json") -> bytes:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", f"Content-Type: {kind}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


async def failure(connection: Connection) -> errors.GpuyardError:
    """What listing nodes there ends with."""
    async with RestApi(connection) as api:
        with pytest.raises(errors.GpuyardError) as caught:
            await api.list(NODES)
    return caught.value


def trusting(pki: Pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pki.ca_certificate))


# -- nobody there ---------------------------------------------------------------------------------------


async def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = await failure(Connection(f"http://127.0.0.1:{port}", origin=origin()))
    assert isinstance(found, errors.ConnectionFailed)
    assert f"http://127.0.0.1:{port} doesn't answer: nothing listens there" in found.message
    assert "is the cluster up" in found.remedy


async def test_a_name_that_nobody_knows() -> None:
    found = await failure(Connection("https://gpuyard.invalid:6443", origin=origin()))
    assert "gpuyard.invalid:6443 doesn't answer: its name can't be resolved" in found.message
    assert "spelt right" in found.remedy


def test_an_address_without_a_scheme() -> None:
    with pytest.raises(errors.UsageError) as caught:
        RestApi(Connection("gpu.example.com", origin=origin()))
    assert caught.value.message == "can't connect to 'gpu.example.com': an API's address begins with https://"
    assert caught.value.remedy.endswith(f"in the kubeconfig (cluster 'gpu' of {FILE})")


async def test_a_connection_that_is_cut() -> None:
    async with serving(b"") as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
    assert "doesn't answer: it cut the connection" in found.message


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes what is sent, and says nothing."""
    await reader.read()
    writer.close()


#: An address that is for documentation: nobody has it (RFC 5737).
NOWHERE = "https://192.0.2.1"


async def test_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*asked: object, **options: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(direct_http, "CONNECT_TIMEOUT_S", 0.01)
    monkeypatch.setattr(asyncio, "open_connection", never)
    found = await failure(Connection(NOWHERE))
    assert found.message == f"the API at {NOWHERE} doesn't answer: no connection within 5 s" and found.remedy


async def test_a_proxy_that_does_not_let_it_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(says("no", 403, kind="text/plain")) as proxy:
        address = f"http://ann:s3cret@127.0.0.1:{proxy.port}"
        found = await failure(Connection(NOWHERE, proxy=address))
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert (await failure(Connection(NOWHERE))).message == found.message
    said = f"the API at {NOWHERE} doesn't answer: the proxy http://***@127.0.0.1:{proxy.port} doesn't let it"
    assert found.message.startswith(f"{said} through: 403") and "NO_PROXY" in found.remedy


def test_passwords_in_addresses_stay_out_of_messages() -> None:
    connection = Connection("https://ann:s3cret@gpu", proxy="nonsense://ann:s3cret@p")
    with pytest.raises(errors.UsageError, match="nonsense") as proxy:
        RestApi(connection)
    with pytest.raises(errors.UsageError, match="proxy-url") as socks:
        RestApi(replace(connection, proxy="socks5://ann:s3cret@p"))
    said = [str(proxy.value), str(socks.value), RestApi(replace(connection, proxy=None)).server]
    for wrong in ("gpu:99999", "ho\u2100st", "[::1"):
        for at in ("@", "\uff20"):
            with pytest.raises(errors.UsageError, match="can't connect to") as caught:
                RestApi(Connection(f"https://ann:s3cret{at}{wrong}"))
            said.append(str(caught.value))
    said += [masked(f"https://ann:{odd}s3cret@gpu") for odd in "/#?@"]
    assert "s3cret" not in " ".join(said)


async def test_a_server_that_says_nothing_is_no_fault_of_tls(pki: Pki) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_certificate, pki.server_key)
    async with await asyncio.start_server(mute, "127.0.0.1", 0, ssl=tls) as listening:
        address = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with RestApi(Connection(address, tls=trusting(pki))) as api:
            with pytest.raises(errors.Stalled, match="no answer within 30 s"):
                await api.get_text("/metrics", silence_timeout_s=0.05, most_bytes=1)


# -- TLS ------------------------------------------------------------------------------------------------


async def test_an_authority_that_is_not_trusted(pki: Pki) -> None:
    async with serving(says({}), pki=pki) as server:
        connection = Connection(
            f"https://127.0.0.1:{server.port}", tls=ssl.create_default_context(), origin=origin()
        )
        found = await failure(connection)
    assert "can't be trusted: an authority that the kubeconfig doesn't trust" in found.message
    assert f"certificate-authority-data of cluster 'gpu' of {FILE}" in found.remedy


async def test_a_certificate_for_another_name(pki: Pki) -> None:
    """127.0.0.2 reaches the server, whose certificate is for 127.0.0.1 and localhost."""
    server = Server([says({"items": []})])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_certificate, pki.server_key)
    async with await asyncio.start_server(server.handle, "127.0.0.2", 0, ssl=tls) as listening:
        address = f"https://127.0.0.2:{listening.sockets[0].getsockname()[1]}"
        connection = Connection(address, tls=trusting(pki), origin=origin())
        found = await failure(connection)
        assert "its certificate is for another name" in found.message
        assert "tls-server-name" in found.remedy
        async with RestApi(replace(connection, tls_server_name="localhost")) as api:
            assert (await api.list(NODES)).items == []


async def test_no_tls_where_the_kubeconfig_says_so(pki: Pki) -> None:
    async with serving(says({})) as server:
        address = f"https://127.0.0.1:{server.port}"
        found = await failure(Connection(address, tls=trusting(pki), origin=origin()))
    assert f"{address} doesn't speak TLS" in found.message and "http://" in found.remedy


async def test_tls_where_the_kubeconfig_says_none() -> None:
    answer = says("Client sent an HTTP request to an HTTPS server.\n", 400, kind="text/plain")
    async with serving(answer) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}", origin=origin()))
    assert found.message.endswith("speaks TLS only")
    assert found.remedy == f"write https:// in `server` of cluster 'gpu' of {FILE}"


# -- no Kubernetes --------------------------------------------------------------------------------------

PAGE = "<!doctype html><head><title>t</title></head><body><h1>Log in</h1> to &amp; fro</body>"


@pytest.mark.parametrize(
    ("answer", "gives"),
    [
        (says(PAGE, kind="text/html; charset=utf-8"), "gives text/html"),
        (says(PAGE, 404, kind="text/html"), "gives text/html"),
        (says(PAGE), "gives application/json"),
        (
            says("", 302, "Location: https://login.example.com/?state=s3cret"),
            "a redirect to https://login.example.com/",
        ),
        (says("hello", kind="text/plain"), "gives text/plain"),
        (says([1]), "gives application/json"),
    ],
)
async def test_what_is_no_kubernetes(answer: bytes, gives: str) -> None:
    async with serving(answer) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}", origin=origin()))
    assert isinstance(found, errors.ConnectionFailed)
    assert f":{server.port} is no Kubernetes API: /api/v1/nodes" in found.message and gives in found.message
    assert "s3cret" not in found.message
    if PAGE.encode() in answer:
        assert found.remedy.endswith("? Log in to & fro")


async def test_a_kind_that_an_older_server_does_not_have() -> None:
    async with serving(says("404 page not found\n", 404, kind="text/plain")) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
    assert isinstance(found, errors.NotFound)


# -- too busy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    busy = says({"message": "busy"}, status, "Retry-After: 0")
    async with serving(busy, busy, says({"items": []})) as server:
        async with RestApi(Connection(f"http://127.0.0.1:{server.port}")) as api:
            assert (await api.list(NODES)).items == []
        assert server.asked == 3


@pytest.mark.parametrize("status", [429, 503, 504])
async def test_what_a_busy_server_is_to_create_is_sent_again(status: int) -> None:
    busy, done = says({"message": "busy"}, status, "Retry-After: 1"), says({"kind": "Node"}, 201)
    async with serving(busy, done) as server:
        async with RestApi(Connection(f"http://127.0.0.1:{server.port}")) as api:
            assert await api.create(NODES, {"metadata": {"name": "a"}}) == {"kind": "Node"}
        assert server.asked == 2


async def test_what_was_created_all_the_same_is_not_created_twice() -> None:
    """What lies before a server may lose its answer, and say that it is away."""
    there = says({"kind": "Status", "reason": "AlreadyExists", "message": "there"}, 409)
    async with serving(says("", 503, "Retry-After: 0"), there) as server:
        async with RestApi(Connection(f"http://127.0.0.1:{server.port}")) as api:
            with pytest.raises(errors.AlreadyExists):
                await api.create(NODES, {"metadata": {"name": "a"}})
        assert server.asked == 2


async def test_a_stream_of_a_busy_server_is_asked_for_again() -> None:
    async with serving(says({}, 429, "Retry-After: 0"), says("line\n", kind="text/plain")) as server:
        async with RestApi(Connection(f"http://127.0.0.1:{server.port}")) as api:
            assert [piece async for piece in api.stream_log("n", "p")] == [b"", b"line\n"]
        assert server.asked == 2


async def test_one_that_stays_busy_is_given_up() -> None:
    status = {"kind": "Status", "reason": "TooManyRequests", "message": "too many requests"}
    async with serving(says(status, 429, "Retry-After: 0")) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
        assert server.asked == 11
    assert isinstance(found, errors.TooManyRequests)
    assert found.message == "too many requests"
    assert found.remedy == "it is too busy, and asks to try again in 0 s"


@pytest.mark.parametrize("headers", [(), ("Retry-After: 3600",), ("Retry-After: soon",)])
async def test_no_answer_is_waited_for_too_long(headers: tuple[str, ...]) -> None:
    async with serving(says({"message": "down"}, 503, *headers)) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
        assert server.asked == 1
    assert isinstance(found, errors.ServiceUnavailable)
    assert "soon s" not in found.remedy


# -- too much ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_ANSWER_BYTES", "MAX_EVENT_BYTES"):
        monkeypatch.setattr(f"gpuyard.client.rest.{name}", 2 << 20)


@pytest.mark.usefixtures("small_bounds")
async def test_an_answer_that_is_too_long_is_given_up() -> None:
    endless = says({"items": []}).replace(b"Content-Length: 13\r\n", b"") + b" " * (3 << 20)
    async with serving(endless) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
    assert isinstance(found, errors.ConnectionFailed)
    assert found.message == "the answer to /api/v1/nodes has more than 2 MiB"
    assert "isn't what gpuyard expects" in found.remedy


@pytest.mark.usefixtures("small_bounds")
async def test_a_watch_without_an_end_of_line_is_given_up() -> None:
    fits = json.dumps({"type": "ADDED", "object": {"a": "x" * (1 << 20)}}) + "\n"
    async with (
        serving(says(fits + " " * (3 << 20))) as server,
        RestApi(Connection(f"http://127.0.0.1:{server.port}")) as api,
    ):
        events = api.watch(NODES, resource_version="1")
        assert (await anext(events)).type == "ADDED"
        with pytest.raises(errors.ConnectionFailed, match="has a line of more than 2 MiB"):
            await anext(events)


async def test_of_a_refusal_only_the_beginning_is_read() -> None:
    async with serving(says("no " * (4 << 20), 403, kind="text/plain")) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
    assert isinstance(found, errors.Forbidden)
    assert found.message.endswith("answered 403: " + ("no " * 67)[:200])


async def test_the_page_of_a_proxy_whose_server_is_away() -> None:
    async with serving(says("<h1>502 Bad Gateway</h1>", 502, kind="text/html")) as server:
        found = await failure(Connection(f"http://127.0.0.1:{server.port}"))
    assert found.message == f"the API at http://127.0.0.1:{server.port} answered 502: 502 Bad Gateway"
    assert "try again in a while" in found.remedy


@pytest.mark.parametrize("follow", [True, False])
async def test_only_a_log_that_is_followed_may_fall_silent(
    follow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its end is missing, and nobody would say so."""
    monkeypatch.setattr("gpuyard.client.rest._LOG_TIMEOUT_S", 0.05)
    done = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await done.wait()
        writer.close()

    async with await asyncio.start_server(stall, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with RestApi(Connection(f"http://127.0.0.1:{port}")) as api:
            pieces, failed = [], False
            try:
                async for piece in api.stream_log("n", "p", follow=follow):
                    pieces.append(piece)  # noqa: PERF401 - what comes before an error counts
            except errors.ConnectionFailed:
                failed = True
        done.set()
    assert (pieces, failed) == ([b"", b"half"], not follow)


# -- credentials ----------------------------------------------------------------------------------------


def client_certificate(pki: Pki, *, ends: datetime, starts: datetime = NOW - timedelta(days=90)) -> bytes:
    key = serialization.load_pem_private_key(pki.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")]))
        .issuer_name(x509.load_pem_x509_certificate(pki.ca_certificate.read_bytes()).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def token(**claims: object) -> dict[str, str]:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {"Authorization": f"Bearer e30.{body}.c2ln"}


def test_certificates_that_are_refused(pki: Pki) -> None:
    def why(certificate: bytes) -> str:
        cause, remedy = why_unauthorized(origin(Proof.CERTIFICATE, certificate), {}, NOW)
        assert remedy
        return cause

    ends = NOW - timedelta(hours=3)
    whose = f"the client certificate of user 'ann' of {FILE}"
    assert why(client_certificate(pki, ends=ends)) == f"{whose} expired at 2026-11-22T21:00:00Z"
    early = client_certificate(pki, starts=NOW + timedelta(1), ends=NOW + timedelta(2))
    assert why(early) == f"{whose} counts from 2026-11-24T00:00:00Z on"
    assert why(client_certificate(pki, ends=NOW + timedelta(1))) == f"it doesn't take {whose}"
    assert why(b"no certificate") == f"it doesn't take {whose}"


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        (token(exp=NOW.timestamp() - 60), "expired at 2026-11-22T23:59:00Z"),
        (token(exp=NOW.timestamp() + 60), "it doesn't take the token"),
        (token(exp="never"), "it doesn't take the token"),
        (token(exp=1e300), "it doesn't take the token"),
        (token(), "it doesn't take the token"),
        ({"Authorization": "Bearer opaque"}, "it doesn't take the token"),
        ({"Authorization": "Bearer a.\u00e9.c"}, "it doesn't take the token"),
    ],
)
def test_tokens_that_are_refused(headers: dict[str, str], cause: str) -> None:
    assert cause in why_unauthorized(origin(), headers, NOW)[0]


@pytest.mark.parametrize(
    ("proof", "cause"),
    [
        (Proof.NONE, f"user 'ann' of {FILE} has no credentials"),
        (Proof.PASSWORD, "the password of user 'ann'"),
        (Proof.PLUGIN, "the token of its credential plugin of user 'ann'"),
    ],
)
def test_other_proofs_that_are_refused(proof: Proof, cause: str) -> None:
    assert cause in why_unauthorized(origin(proof), {}, NOW)[0]


async def test_unauthorized_names_the_user_and_the_file() -> None:
    async with serving(says({"reason": "Unauthorized", "message": "Unauthorized"}, 401)) as server:
        address = f"http://127.0.0.1:{server.port}"
        found = await failure(Connection(address, headers=token(exp=1), origin=origin()))
    assert isinstance(found, errors.Unauthorized)
    assert found.message == (
        f"the API at {address} says Unauthorized: the token of user 'ann' of {FILE} expired at "
        "1970-01-01T00:00:01Z"
    )
    assert str(FILE) in found.remedy
