"""The verdict over combinations of which it was published whether they ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.fleet import judge_all
from gpuyard.compatibility.judge import judge
from gpuyard.compatibility.need import need_of
from gpuyard.compatibility.offer import Offer, stated_offer
from gpuyard.compatibility.verdict import Fit, Rule
from tests.unit.compatibility.reports import REPORTS, Report

FACTS = load_facts()


def offer_of(report: Report) -> Offer:
    return replace(stated_offer(report.gpu, report.driver, FACTS), injection=report.injection)


def test_there_are_enough_of_them_each_with_its_source() -> None:
    assert len(REPORTS) >= 60
    assert all(report.source.startswith("https://") for report in REPORTS)


@pytest.mark.parametrize(
    "report",
    REPORTS,
    ids=[f"{n}-{r.image.reference.rpartition('/')[2]}-{r.gpu}-{r.driver}" for n, r in enumerate(REPORTS)],
)
def test_the_verdict_is_what_was_seen(report: Report) -> None:
    verdict = judge(need_of(report.image, FACTS), offer_of(report), FACTS)
    # In legacy mode NVIDIA_REQUIRE_CUDA refuses it too; elsewhere that is a note beside what decides.
    found = [r for r in verdict.reasons if r.rule is not Rule.REQUIRE]
    assert replace(verdict, reasons=tuple(found)).outcome is report.outcome, (report, verdict.reasons)
    decisive = next((r.rule for r in found if r.outcome is report.outcome), None)
    assert decisive is report.rule, report
    if report.outcome is Fit.UNKNOWN:
        assert "contested" in found[0].message


@pytest.mark.parametrize(
    "report", [r for r in REPORTS if r.outcome is Fit.FAILS and r.rule is not Rule.MACHINE]
)
def test_who_fails_is_told_what_fits(report: Report) -> None:
    found = judge_all([need_of(report.image, FACTS)], [offer_of(report)], FACTS)
    [verdict] = found.verdicts
    assert found.suggestion or any(reason.remedy for reason in verdict.reasons), report
