"""Carries TCP from sockets of one network namespace to addresses of another.

Called as `forward.py FD=HOST:PORT…`: the listening sockets come from who started this process, and belong to
the network namespace that they were made in; the connections are made in the namespace of this process.
"""

import asyncio
import contextlib
import socket
import sys

_CHUNK_BYTES = 1 << 18


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        writer.close()


async def _serve(listening: socket.socket, host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK_BYTES)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        for end in (writer, far_writer):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()

    server = await asyncio.start_server(connected, sock=listening, limit=_CHUNK_BYTES)
    await server.serve_forever()


async def main(arguments: list[str]) -> None:
    """Serves until killed."""
    async with asyncio.TaskGroup() as group:
        for argument in arguments:
            fd, _, target = argument.partition("=")
            host, _, port = target.rpartition(":")
            group.create_task(_serve(socket.socket(fileno=int(fd)), host, int(port)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
