from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.kube.status import error_of, status_of


def test_a_status_says_everything() -> None:
    error = errors.NotFound('pods "p" not found', details={"name": "p", "kind": "pods"})
    assert status_of(error) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "p" not found',
        "reason": "NotFound",
        "details": {"name": "p", "kind": "pods"},
        "code": 404,
    }


def test_the_remedy_goes_into_the_message() -> None:
    error = errors.StorageFull("the disk is full", remedy="free some space")
    assert status_of(error)["message"] == "the disk is full: free some space"


@pytest.mark.parametrize("kind", errors.ApiError.__subclasses__())
def test_every_error_comes_back_as_it_was(kind: type[errors.ApiError]) -> None:
    status = status_of(kind("no", details={"name": "p"}))
    error = error_of(status, status["code"])
    assert type(error) is kind
    assert (error.message, error.details, error.code, error.reason) == (
        "no",
        {"name": "p"},
        kind.code,
        kind.reason,
    )


def test_no_two_errors_have_the_same_reason() -> None:
    reasons = [kind.reason for kind in errors.ApiError.__subclasses__()]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize(
    ("body", "code", "kind"),
    [
        ({"reason": "Gone"}, 410, errors.Gone),
        ({"reason": "Expired"}, 410, errors.Gone),
        ({"reason": "AlreadyExists"}, 409, errors.AlreadyExists),
        ({}, 409, errors.Conflict),
        ({}, 404, errors.NotFound),
        ({"reason": "Unheard"}, 422, errors.Invalid),
        ({"details": None, "message": None}, 503, errors.ServiceUnavailable),
    ],
)
def test_what_other_servers_send(body: dict[str, object], code: int, kind: type[errors.ApiError]) -> None:
    error = error_of(body, code)
    assert type(error) is kind
    assert error.message == f"the server answered {code}"


def test_an_unknown_code_is_kept() -> None:
    error = error_of({"message": "short and stout", "reason": "Teapot"}, 418)
    assert (type(error), error.code, error.reason) == (errors.ApiError, 418, "Teapot")
    assert errors.ApiError("x").code == 500
