"""Serves the diffusion model of diffusion.py over HTTP.

    /generate?n=4&seed=1&digit=7   pictures as JSON; /generate.png draws them
    /readyz                        503 until the model is there, then 200

Loads weights.pt; where there is none it trains the model first, and saves it for the next start. SIGTERM ends
it when the answers under way are given. HOST and PORT say where it listens.
"""

import json
import os
import signal
import struct
import threading
import zlib
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

Images = list[list[list[int]]]  # pictures of rows of pixels, 0 to 255

MOST_PICTURES = 64
PNG_SCALE = 8


class Server(ThreadingHTTPServer):
    """Answers from the start; `draw` is None until the model is there."""

    daemon_threads = False  # server_close waits for answers under way
    draw = None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = 10  # seconds for a client to say what it wants

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path not in ("/readyz", "/generate", "/generate.png"):
            self.answer(HTTPStatus.NOT_FOUND, b"try /generate?n=4&seed=1, /generate.png or /readyz\n")
        elif self.server.draw is None:
            self.answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the model isn't ready yet\n")
        elif url.path == "/readyz":
            self.answer(HTTPStatus.OK, b"ready\n")
        else:
            self.generate(url.query, picture=url.path.endswith(".png"))

    def generate(self, query: str, picture: bool) -> None:
        try:
            digits, seed = read_query(query)
        except ValueError as error:
            self.answer(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
            return
        images = self.server.draw(digits, seed)
        if picture:
            self.answer(HTTPStatus.OK, png(images), "image/png")
        else:
            body = json.dumps({"seed": seed, "digits": digits, "images": images})
            self.answer(HTTPStatus.OK, f"{body}\n".encode(), "application/json")

    def answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        # Probes would fill the log.
        if getattr(self, "path", "") != "/readyz":
            print(self.address_string(), format % arguments, flush=True)


def read_query(query: str) -> tuple[list[int], int]:
    """Which digits are wanted, and the seed."""
    fields = {
        "n": "1",
        "seed": "0",
        "digit": "",
        **{key: values[-1] for key, values in parse_qs(query).items()},
    }
    if unknown := fields.keys() - {"n", "seed", "digit"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; there are n, seed and digit")
    count = read_number("n", fields["n"], 1, MOST_PICTURES)
    seed = read_number("seed", fields["seed"], 0, 2**63 - 1)
    if fields["digit"]:
        return [read_number("digit", fields["digit"], 0, 9)] * count, seed
    return [index % 10 for index in range(count)], seed


def read_number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise ValueError(f"{name} is {text!r}, not a number from {least} to {most}")
    return int(text)


def png(images: Images) -> bytes:
    """The pictures side by side as a greyscale PNG."""
    lines = []
    for rows in zip(*images, strict=True):
        line = bytes(value for row in rows for value in row for _ in range(PNG_SCALE))
        lines += [b"\0" + line] * PNG_SCALE  # 0: the line isn't filtered
    size = struct.pack(">IIBBBBB", len(lines[0]) - 1, len(lines), 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def prepare(stop: threading.Event) -> Callable[[list[int], int], Images]:
    """Loads or trains the model; gives a function that draws digits from a seed."""
    # Not at the top: torch takes seconds to load, and /readyz and SIGTERM are to be heeded meanwhile.
    import diffusion

    device = diffusion.choose_device()
    if diffusion.WEIGHTS.exists():
        print(f"Loading {diffusion.WEIGHTS.name}", flush=True)
        network = diffusion.load(device)
    else:
        print("There are no weights: training", flush=True)
        network = diffusion.train(device, stop.is_set)
        if not stop.is_set():
            try:
                diffusion.save(network)
            except OSError as error:  # nothing can be written here: the next start trains again
                print(f"The weights aren't saved: {error}", flush=True)
    one_at_a_time = threading.Lock()

    def draw(digits: list[int], seed: int) -> Images:
        with one_at_a_time:
            pictures = diffusion.sample(network, digits, seed)
        return (pictures * 255).round().int().tolist()

    return draw


def main() -> None:
    host, port = os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Server((host, port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"Listening on http://{host}:{server.server_port}", flush=True)
        try:
            draw = prepare(stop)
            if not stop.is_set():
                server.draw = draw
                print("Ready", flush=True)
            stop.wait()
        finally:
            server.shutdown()
    print("Stopped", flush=True)


if __name__ == "__main__":
    main()
