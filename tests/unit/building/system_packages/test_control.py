from __future__ import annotations

from gpuyard.building.system_packages.control import parse_fields, read_paragraphs


def test_paragraphs_are_divided_by_blank_lines_however_many_there_are() -> None:
    text = "\nPackage: a\nVersion: 1\n\n\n \nPackage: b\n\nPackage: c\n"
    assert [fields["package"] for fields in read_paragraphs(text)] == ["a", "b", "c"]


def test_fields_go_on_in_lines_that_begin_with_a_blank() -> None:
    fields = parse_fields(
        "# a comment\nDescription: short\n long\n .\n end\nTag: x::y:z\n# another\nempty:\n"
    )
    assert fields == {"description": "short\n long\n .\n end", "tag": "x::y:z", "empty": ""}
