"""`forward`: ports of a run, on the loopback addresses of this machine."""

from __future__ import annotations

import re
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from tests.waiting import until

from .shell import Shell

SERVES = """
import http.server, socketserver, sys
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() * 20_000)
socketserver.TCPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Says).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{address}/{path}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


def test_a_port_of_a_run_is_reached_also_after_the_run_got_another_pod(target: Shell) -> None:
    target.script("serves.py", SERVES)
    served, silent = free_port(), free_port()
    target.ok("run", "-d", "-n", "web", "serves.py", "--", str(served))
    target.wait_for("web", "running")
    command = target.start("forward", "we", f":{served}", f":{silent}")
    command.wait_for(f"port {silent} of web")
    address, nobody = re.findall(r"http://127.0.0.1:\d+", command.err)
    assert until(lambda: get(address, "x"), "it is up", not_yet=(OSError,)) == b"/x" * 20_000
    with ThreadPoolExecutor(8) as pool:
        paths = [f"path-{number}" for number in range(16)]
        assert list(pool.map(lambda path: get(address, path)[: len(path) + 1].decode(), paths)) == [
            f"/{path}" for path in paths
        ]
    with socket.create_connection(("127.0.0.1", int(nobody.rpartition(":")[2]))) as connection:
        assert connection.recv(1) == b""
    command.wait_for("nobody listens there")
    assert target.refused(2, "forward", "web", f"{address.rpartition(':')[2]}:{served}")
    if target.is_yard:
        assert "is the run's own" in target.refused(2, "forward", "web", f"{served}:{served}")
    pods = f"/api/v1/namespaces/{target.namespace}/pods?labelSelector=gpuyard.io/run=web"
    target.evict(target.get(pods)["items"][0]["metadata"]["name"])
    until(lambda: len(target.json("show", "web")["attempts"]), "it has another pod", lambda count: count == 2)
    assert until(lambda: get(address, "y"), "it is up again", not_yet=(OSError,)) == b"/y" * 20_000
    target.ok("stop", "web")
    assert command.finish().code == 0
