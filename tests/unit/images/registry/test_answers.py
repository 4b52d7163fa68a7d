from __future__ import annotations

import orjson
import pytest

from gpuyard.images.registry.answers import RegistryResponse, error_of
from gpuyard.images.registry.responses import Headers
from gpuyard.images.registry.urls import Url


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_registrys_own_words_are_in_one_line(status: int) -> None:
    said = orjson.dumps({"errors": [{"code": "DENIED", "message": "no\nError: all is lost\r\n  run this"}]})
    answer = RegistryResponse(status, Headers([]), said, Url.parse("https://registry.example/v2/"))
    assert "(DENIED: no Error: all is lost run this)" in error_of(answer, "reading it").message
