import pytest

from gpuyard.agent.metrics.text import label_text
from gpuyard.metrics_text import MetricSample, parse_metrics


def test_names_labels_and_values() -> None:
    text = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",pod="train-0"} 97
gpuyard_up 1
x_total{a="b"} 1.5e+3 1700000000000
"""
    assert parse_metrics(text) == [
        MetricSample("DCGM_FI_DEV_GPU_UTIL", {"gpu": "0", "UUID": "GPU-a", "pod": "train-0"}, 97.0),
        MetricSample("gpuyard_up", {}, 1.0),
        MetricSample("x_total", {"a": "b"}, 1500.0),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"a\"b", 'a"b'), (r"a\\n", r"a\n"), (r"a\nb", "a\nb"), ("a, b}", "a, b}"), ("", ""), (r"\q", r"\q")],
)
def test_labels_are_unescaped(written: str, meant: str) -> None:
    [sample] = parse_metrics(f'm{{one="{written}",two="2"}} 1\n')
    assert sample.labels == {"one": meant, "two": "2"}


@pytest.mark.parametrize("inside", ["\u0085", "\u2028", "\x0b", "\x1c", "\r", 'a"} 1'])
def test_no_name_of_a_process_ends_its_line(inside: str) -> None:
    written = label_text({"command": f"py{inside}thon", "pid": "1"})
    assert [sample.labels["command"] for sample in parse_metrics(f"m{{{written}}} 1\n")] == [
        f"py{inside}thon"
    ]


@pytest.mark.parametrize(
    "text", ["", "<html>no</html>", "m{a=", "m one", '{"kind": "Status"}', "m +Inf", "m -Inf", "m NaN"]
)
def test_what_is_no_sample_is_left_out(text: str) -> None:
    assert parse_metrics(f"{text}\nm 1\n") == [MetricSample("m", {}, 1.0)]
