import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.runtime.podman.arguments import run_args, split_environment
from gpuyard.local.runtime.values import ContainerSpec, HostDevice, ImageRun, Limits, Mount

SPEC = ContainerSpec("u_main_0", ["-c", "x y"], {"A": "1"}, "/work", image=ImageRun("sha"))


def args_of(spec: ContainerSpec, *, limits: bool = True) -> list[str]:
    environment = split_environment(spec.env, {"PATH": "/bin"})
    return run_args(spec, Path("/f"), yard="y", flags=["--x"], environment=environment, limits=limits)


def option(args: list[str], name: str) -> list[str]:
    return [value for key, value in itertools.pairwise(args) if key == name]


def test_no_value_of_the_environment_is_on_the_command_line() -> None:
    env = {"TOKEN": "secret", "KEY": "-----BEGIN\nsecret\n", "QUOTED": '"secret"', "LONG": "secret" * 10_000}
    split = split_environment(env, {"PATH": "/bin"})
    assert split.file == "TOKEN=secret\n"
    assert dict(split.inherited) == {name: env[name] for name in ("KEY", "QUOTED", "LONG")}
    args = args_of(replace(SPEC, env=env))
    assert not any("secret" in arg for arg in args)
    assert {"KEY", "QUOTED", "LONG"} <= set(option(args, "--env"))


@pytest.mark.parametrize("name", ["PATH", "ANY*", "a.b"])
def test_what_podman_would_take_for_its_own_is_told_in_full(name: str) -> None:
    split = split_environment({name: "two\nlines"}, {"PATH": "/bin"})
    assert (split.file, dict(split.inherited)) == ("", {})
    assert dict(split.arguments) == {name: "two\nlines"}


def test_the_image_keeps_what_is_not_replaced() -> None:
    args = args_of(replace(SPEC, argv=[], working_dir=""))
    assert args[-1] == "sha"
    assert not {"--entrypoint", "--user", "--workdir", "--shm-size", "--memory"} & set(args)


def test_a_command_replaces_the_entrypoint_word_by_word() -> None:
    args = args_of(replace(SPEC, image=ImageRun("sha", ("/bin/sh", 'a "b"'))))
    assert option(args, "--entrypoint") == ['["/bin/sh", "a \\"b\\""]']
    assert args[-3:] == ["sha", "-c", "x y"]


@pytest.mark.parametrize(("shm_bytes", "size"), [(None, []), (0, ["0"]), (4096, ["4096b"])])
def test_shm(shm_bytes: int | None, size: list[str]) -> None:
    assert option(args_of(replace(SPEC, shm_bytes=shm_bytes)), "--shm-size") == size


def test_devices_mounts_and_limits() -> None:
    spec = replace(
        SPEC,
        devices=[HostDevice("/dev/null", "/dev/nvidia0")],
        mounts=[
            Mount(Path("/v"), "/tmp"),
            Mount(Path("/r"), "/r", read_only=True),
            Mount(Path("/o"), "/o", read_only=True, options=("nosuid", "nodev")),
        ],
        limits=Limits(1500, 1 << 30),
    )
    args = args_of(spec)
    assert option(args, "--device") == ["/dev/null:/dev/nvidia0:rw"]
    assert option(args, "--mount") == [
        "type=bind,source=/v,target=/tmp",
        "type=bind,source=/r,target=/r,readonly",
        "type=bind,source=/o,target=/o,readonly,nosuid,nodev",
    ]
    assert option(args, "--cpu-quota") == ["150000"]
    assert option(args, "--memory") == ["1073741824b"]
    assert "--memory" not in args_of(spec, limits=False)


def test_a_comma_in_a_mount_reaches_podman_whole() -> None:
    args = args_of(
        replace(
            SPEC,
            mounts=[
                Mount(Path("/a,b"), "/c"),
                Mount(Path("/d"), '/e"f', read_only=True, options=("nodev",)),
            ],
        )
    )
    assert option(args, "--volume") == ["/a,b:/c:rw", '/d:/e"f:ro,nodev']
    with pytest.raises(errors.StartError, match="a colon and a comma"):
        args_of(replace(SPEC, mounts=[Mount(Path("/a,b"), "/c:d")]))


def test_restricted() -> None:
    image = ImageRun("sha", user="1000:1000", groups=(7,), drop_capabilities=("ALL",), no_new_privileges=True)
    args = args_of(replace(SPEC, image=image))
    assert option(args, "--user") == ["1000:1000"]
    assert option(args, "--group-add") == ["7"]
    assert option(args, "--cap-drop") == ["ALL"]
    assert "no-new-privileges" in option(args, "--security-opt")
