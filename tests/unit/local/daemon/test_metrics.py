import asyncio
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.metrics.server import MetricsServer
from gpuyard.local.daemon.metrics import joined, read_metrics


async def test_the_exporters_text_comes_whole(tmp_path: Path) -> None:
    async def scrape() -> str:
        return 'up{pod="é"} 1\n' * 100_000

    server = MetricsServer(scrape)
    await server.listen(tmp_path / "metrics.sock")
    assert (await read_metrics([tmp_path / "metrics.sock"])).decode() == await scrape()
    await server.close()


async def test_an_exporter_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.ServiceUnavailable, match="the yard's exporter doesn't answer") as caught:
        await read_metrics([tmp_path / "metrics.sock"])
    assert "daemon.log" in caught.value.remedy

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(cut, tmp_path / "metrics.sock"):
        with pytest.raises(errors.ServiceUnavailable, match="doesn't answer"):
            await read_metrics([tmp_path / "metrics.sock"])


def test_texts_of_several_nodes_are_one_text_of_each_family() -> None:
    head = b"# HELP gpus GPUs of the node\n# TYPE gpus gauge\n"
    one = head + b'gpus{node="a"} 8\n' + b"# TYPE up counter\nup 1\n"
    other = b"# TYPE up counter\nup 1\n" + head + b'gpus{node="b"} 4\n'
    assert joined([one, other]) == head + b'gpus{node="a"} 8\ngpus{node="b"} 4\n# TYPE up counter\nup 1\n'
    assert joined([one]) == one


async def test_a_node_that_is_down_takes_no_other_s_metrics(tmp_path: Path) -> None:
    async def scrape() -> str:
        return "up 1\n"

    server = MetricsServer(scrape)
    await server.listen(tmp_path / "metrics.sock")
    assert await read_metrics([tmp_path / "none.sock", tmp_path / "metrics.sock"]) == b"up 1\n"
    await server.close()
