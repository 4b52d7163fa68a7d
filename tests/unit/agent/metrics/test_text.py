from gpuyard.agent.metrics.families import Family
from gpuyard.agent.metrics.text import MetricsText, label_text

HEAT = Family("heat", "gauge", "How hot (C).")
COUNT = Family("count_total", "counter", "How many.")


def test_samples_stand_below_their_family() -> None:
    text = MetricsText()
    text.add(HEAT, 41.5, 'a="1"', "")
    text.add(COUNT, True, 'a="1"', 'b="2"')
    text.add(HEAT, 12345678901234)
    assert str(text) == (
        '# HELP heat How hot (C).\n# TYPE heat gauge\nheat{a="1"} 41.5\nheat{} 12345678901234\n'
        '# HELP count_total How many.\n# TYPE count_total counter\ncount_total{a="1",b="2"} 1\n'
    )


def test_labels_are_escaped_and_empty_ones_left_out() -> None:
    assert label_text({"a": 'x"y\\z\n', "b": "", "c": "é"}) == 'a="x\\"y\\\\z\\n",c="é"'
