from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.local.http.negotiation import Form, choose_form, parse_accept

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", Form.PLAIN),
        ("*/*", Form.PLAIN),
        ("application/json", Form.PLAIN),
        ("application/vnd.kubernetes.protobuf, application/json", Form.PLAIN),
        (f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Form.TABLE),
        (f"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,{TABLE}", Form.TABLE),
        ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Form.PLAIN),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", Form.METADATA),
        (f"{TABLE};q=0.5, application/json", Form.PLAIN),
        ("APPLICATION/JSON", Form.PLAIN),
    ],
)
def test_the_first_that_is_served(header: str, form: Form) -> None:
    assert choose_form(parse_accept(header)) is form


@pytest.mark.parametrize(
    "header",
    [
        "application/vnd.kubernetes.protobuf",
        "text/html",
        "application/json;q=0",
        "application/json;as=Table;v=v9",
    ],
)
def test_nothing_that_is_served(header: str) -> None:
    with pytest.raises(errors.NotAcceptable, match="only the following media types are accepted"):
        choose_form(parse_accept(header))
