from __future__ import annotations

import pytest

from gpuyard.images.registry.auth import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("values", "challenges"),
    [
        ([], []),
        (["Basic"], [Challenge("basic")]),
        (['Basic realm="here"'], [Challenge("basic", {"realm": "here"})]),
        (
            [
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:a/b:pull,push"'
            ],
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            ['BEARER Realm = "x" , service=y, Basic realm="a \\"quoted\\" one"'],
            [
                Challenge("bearer", {"realm": "x", "service": "y"}),
                Challenge("basic", {"realm": 'a "quoted" one'}),
            ],
        ),
        (
            ['Basic realm="a"', 'Bearer realm="b"'],
            [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})],
        ),
        (['realm="nobody asked"'], []),
        (["???"], []),
    ],
)
def test_challenges(values: list[str], challenges: list[Challenge]) -> None:
    assert parse_challenges(values) == challenges


def test_a_parameter_that_never_ends_is_left_out() -> None:
    assert "realm" not in parse_challenges(['Bearer realm="never closed'])[0].parameters
