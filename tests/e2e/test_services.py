"""A service's life as its user sees it, on a yard and on a cluster alike."""

from __future__ import annotations

from typing import Any

from tests.e2e.shell import Shell
from tests.waiting import until

#: Answers with its word; on a cluster it listens for other machines.
PROGRAM = """
import http.server, os
class Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["WORD"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Says)
print("listening for", os.environ["WORD"], flush=True)
server.serve_forever()
"""
#: Replicas of a cluster leave slowly, so that every proxy has heard of it.
PATIENCE_S = 240


def listed(target: Shell, name: str) -> dict[str, Any]:
    [row] = [row for row in target.json("ps") if row["name"] == name]
    found: dict[str, Any] = row
    return found


def replicas(target: Shell, name: str) -> dict[str, Any]:
    found: dict[str, Any] = listed(target, name)["replicas"]
    return found


def test_a_service_from_its_first_replica_to_its_end(target: Shell) -> None:
    target.script("word.py", PROGRAM)
    served = target.call(
        *("serve", "word.py", "-n", "word", "--gpus", "1", "--port", "8000", "--replicas", "2"),
        *("--readiness", "/healthz", "--env", "WORD=one"),
    )
    assert served.code == 0, served.err
    row = listed(target, "word")
    assert (row["kind"], row["state"], row["gpus"]) == ("Deployment", "running", 2)
    assert (row["replicas"]["ready"], row["replicas"]["wanted"], row["simulated"]) == (2, 2, True)
    assert row["address"].startswith("http://") and row["address"].endswith(":8000")
    assert target.answer("word", 8000) == "one"
    assert set(target.ok("logs", "word").splitlines()) == {
        f"[{pod['pod'].rpartition('-')[2]}] listening for one" for pod in target.state("word")["pods"]
    }

    updated = target.call("update", "word", "--env", "WORD=two")
    assert updated.code == 0, updated.err
    assert target.answer("word", 8000) == "two"
    assert "word: running: 2/2 replicas ready" in target.ok("explain", "word")
    assert target.ok("exec", "word", "--", "sh", "-c", 'echo "$WORD"').strip() == "two"

    assert target.call("rollback", "word").code == 0
    assert target.answer("word", 8000) == "one"
    target.ok("scale", "word", "3")
    until(lambda: replicas(target, "word")["ready"] == 3, "three are ready", timeout_s=PATIENCE_S)

    assert "word has not ended" in target.refused(2, "rm", "word")
    assert target.ok("stop", "word") == "Stopped word.\n"
    assert (listed(target, "word")["state"], replicas(target, "word")["wanted"]) == ("stopped", 0)
    assert target.ok("rm", "word") == "Removed word.\n"
    assert [row for row in target.json("ps") if row["name"] == "word"] == []


def test_explain_says_what_keeps_a_replica_from_being_ready(target: Shell) -> None:
    target.script("sulks.py", PROGRAM.replace("self.send_response(200)", "self.send_response(500)"))
    target.ok(
        *("serve", "sulks.py", "-n", "sulks", "-d", "--port", "8000", "--gpus", "1"),
        *("--readiness", "/healthz", "--env", "WORD=no"),
    )
    text = until(
        lambda: target.ok("explain", "sulks"),
        "its probe is told",
        lambda said: "statuscode: 500" in said,
        timeout_s=PATIENCE_S,
    )
    assert "sulks: starting: 0/1 replicas ready" in text
    assert "runs and isn't ready" in text and "its last line: listening for no" in text
    assert target.state("sulks")["address"]
    target.ok("rm", "--force", "sulks")
