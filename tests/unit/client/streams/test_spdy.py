from __future__ import annotations

import random

import pytest

from gpuyard.client.streams.spdy import (
    ControlFrame,
    DataPiece,
    FrameReader,
    FrameType,
    HeaderBlocks,
    data_head,
    pong,
    reset,
    syn_reply,
    syn_stream,
)

HEADERS = {"streamType": "error", "port": "8888", "requestID": "0"}


def test_headers_come_out_as_they_went_in_block_after_block() -> None:
    ours, theirs = HeaderBlocks(), HeaderBlocks()
    for kind in ("error", "data"):
        block = ours.pack({**HEADERS, "streamType": kind})
        assert theirs.unpack(block) == {"streamtype": kind, "port": "8888", "requestid": "0"}


@pytest.mark.parametrize("block", [b"", b"nonsense", b"\x78\xbb"])
def test_headers_that_are_none_are_an_error(block: bytes) -> None:
    with pytest.raises(ValueError, match="headers"):
        HeaderBlocks().unpack(block)


def test_the_words_that_both_ends_know_are_the_protocol_s() -> None:
    # The Adler-32 of the dictionary stands at the beginning of a stream (RFC 1950, 2.2).
    assert HeaderBlocks().pack({})[2:6] == bytes.fromhex("e3c6a7c2")


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_frames_are_found_in_pieces_of_any_size(step: int) -> None:
    sent = [
        syn_stream(1, b"headers"),
        data_head(1, 3) + b"abc",
        data_head(3, 0, is_last=True),
        syn_reply(1, b""),
        data_head(1, 20_000, is_last=True) + random.Random(1).randbytes(20_000),
        reset(1),
        pong(ControlFrame(FrameType.PING, 0, b"\x00\x00\x00\x07")),
    ]
    reader, data = FrameReader(), b"".join(sent)
    found = [
        frame for start in range(0, len(data), step) for frame in reader.feed(data[start : start + step])
    ]
    control = [(frame.type, frame.stream) for frame in found if isinstance(frame, ControlFrame)]
    assert control == [
        (FrameType.SYN_STREAM, 1), (FrameType.SYN_REPLY, 1), (FrameType.RST_STREAM, 1), (FrameType.PING, 7)
    ]  # fmt: skip
    pieces = [frame for frame in found if isinstance(frame, DataPiece)]
    assert b"".join(piece.data for piece in pieces if piece.stream == 1) == b"abc" + sent[4][8:]
    assert [piece.stream for piece in pieces if piece.is_last] == [3, 1]


@pytest.mark.parametrize("data", [b"\x80\x02\x00\x01\x00\x00\x00\x00", b"\x80\x03\x00\x01\x00\xff\xff\xff"])
def test_what_is_no_spdy_3_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="SPDY"):
        list(FrameReader().feed(data))
