"""Leader election by a Lease: of several candidates one leads at a time.

A candidate never compares its own wall clock with a time that another has written. It notes on its own
steady clock when it saw the Lease change, and takes over once the Lease has stood still for as long as it is
to last. So clocks may differ as much as they like, as long as they run equally fast.

Source: `tools/leaderelection` of Kubernetes' client-go 1.34.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import LEASES, Manifest, ObjectKey, with_kind
from gpuyard.kube.timestamps import format_micro_time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """How long a Lease lasts, how long its holder tries to renew it, and how often everybody looks at it.

    A leader's work has ended `margin_s` before the end of the Lease, which leaves room for a slow loop. So
    `renew_s` is less than `lease_s` without it: who can't reach the API stops before another one starts.
    """

    lease_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0
    margin_s: float = 1.0


class LeaderElection:
    """One candidate for one Lease. `run` does the leader's work whenever this candidate leads.

    Args:
        lease: namespace and name of the Lease.
        identity: of this candidate, unlike that of any other.
        clock: aware UTC now, only written for people to read.
        seconds: a steady clock that goes on in a suspend: a leader that slept has lost its Lease.
        sleep: as `asyncio.sleep`.
    """

    def __init__(
        self,
        api: KubeApi,
        lease: ObjectKey,
        identity: str,
        clock: Callable[[], datetime],
        *,
        terms: Terms = Terms(),
        seconds: Callable[[], float] = seconds_since_boot,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._lease = lease
        self._identity = identity
        self._clock = clock
        self._terms = terms
        self._seconds = seconds
        self._sleep = sleep
        #: What the Lease said when it was last seen to change, and when that was.
        self._seen: object = None
        self._seen_at_s = seconds()
        #: Others may count from the moment when the Lease was written, which is before its answer.
        self._renewed_at_s = self._seen_at_s
        self.is_leader = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Stands for election until cancelled. `lead` runs while this candidate leads, and is cancelled when
        it no longer does; then it stands again. The Lease is given back at the end.

        Raises:
            ElectionError: `lead` goes on after it was cancelled, while another may lead: end this process.
            Exception: what `lead` raised, or what nobody foresaw in an attempt to renew the Lease.
        """
        try:
            while True:
                self._renewed_at_s = self._seconds()
                while not await self._try():
                    await self._sleep(self._terms.retry_s)
                    self._renewed_at_s = self._seconds()
                if self._renewal_left_s() <= 0:
                    continue
                log.info("%s leads by %s", self._identity, self._lease)
                await self._lead(lead)
                log.warning("%s no longer leads by %s", self._identity, self._lease)
        finally:
            if not self.is_leader:
                await self._release()

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        self.is_leader = True
        work = asyncio.ensure_future(lead())
        renewal = asyncio.create_task(self._renew(), name=f"renew {self._lease}")
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            for ended in (work, renewal):
                if ended.done():
                    ended.result()
        finally:
            # First the work, then the right to it.
            work.cancel()
            renewal.cancel()
            await self._until_ended(work)
            self.is_leader = False

    async def _until_ended(self, work: asyncio.Future[None]) -> None:
        """Waits for as long as nobody else may lead; at least for one turn of the loop."""
        terms = self._terms
        left_s = max(0.0, self._renewed_at_s + terms.lease_s - terms.margin_s - self._seconds())
        if not await self._ends_within(left_s, work):
            raise errors.ElectionError(
                f"{self._identity} lost {self._lease}, and its leader's work hasn't ended in {left_s:g} s",
                remedy="this process has to end now: another one may lead",
            )

    async def _ends_within(self, limit_s: float, work: asyncio.Future[Any]) -> bool:
        time_is_up = asyncio.ensure_future(self._sleep(limit_s))
        try:
            await asyncio.wait((work, time_is_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            time_is_up.cancel()
        return work.done()

    def _renewal_left_s(self) -> float:
        """Until the time to renew the Lease is over."""
        return self._renewed_at_s + self._terms.renew_s - self._seconds()

    async def _renew(self) -> None:
        """Returns when the Lease is lost: it is another's, or couldn't be renewed in time."""
        while self._renewal_left_s() > 0:
            await self._sleep(self._terms.retry_s)
            if self._renewal_left_s() <= 0:
                return
            started_at_s = self._seconds()
            attempt = asyncio.create_task(self._try(), name=f"take {self._lease}")
            try:
                await self._ends_within(self._renewal_left_s(), attempt)
            finally:
                attempt.cancel()
            if attempt.done() and attempt.result():
                self._renewed_at_s = started_at_s
            elif self._holder not in ("", self._identity):
                return

    async def _try(self) -> bool:
        """Takes or renews the Lease; False when it is another's, or the API doesn't let us."""
        try:
            return await self._take()
        except errors.GpuyardError as error:
            log.warning("%s can't take or renew %s: %s", self._identity, self._lease, error)
            return False

    async def _take(self) -> bool:
        try:
            lease = await self._api.get(LEASES, self._lease.name, self._lease.namespace)
        except errors.NotFound:
            # Somebody deleted it under its holder, who makes it again at its next look if it lives.
            if self._is_held(self._terms.lease_s):
                return False
            namespace, name = self._lease
            metadata = {"namespace": namespace, "name": name}
            made = await self._api.create(LEASES, {"metadata": metadata, "spec": self._spec({})})
            self._see(_spec_of(made))
            return True
        spec = _spec_of(lease)
        if spec != self._seen:
            self._see(spec)
        if self._is_held(_duration_s(spec, self._terms.lease_s)):
            return False
        await self._write(lease, self._spec(spec))
        return True

    def _is_held(self, duration_s: float) -> bool:
        """Whether it is another's, as far as was seen."""
        is_anothers = self._holder not in ("", self._identity)
        return is_anothers and self._seconds() - self._seen_at_s < duration_s

    async def _write(self, lease: Manifest, spec: Mapping[str, Any]) -> None:
        """Replaces what the Lease says, unless somebody else was faster (Conflict)."""
        written = await self._api.update(LEASES, {**with_kind(LEASES, lease), "spec": dict(spec)})
        self._see(_spec_of(written))

    async def _release(self) -> None:
        """Gives the Lease back, so that another needn't wait for its end."""
        if self._holder != self._identity:
            return
        with contextlib.suppress(errors.GpuyardError):
            lease = await self._api.get(LEASES, self._lease.name, self._lease.namespace)
            if _spec_of(lease).get("holderIdentity") == self._identity:
                spec = {**self._spec(_spec_of(lease)), "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._write(lease, spec)

    @property
    def _holder(self) -> str:
        holder = self._seen.get("holderIdentity") if isinstance(self._seen, Mapping) else ""
        # A holder that is no text is somebody: whoever wrote it may believe to lead.
        return holder if isinstance(holder, str) else repr(holder) if holder is not None else ""

    def _see(self, spec: Mapping[str, Any]) -> None:
        self._seen, self._seen_at_s = dict(spec), self._seconds()

    def _spec(self, old: Mapping[str, Any]) -> dict[str, Any]:
        now = format_micro_time(self._clock())
        mine = old.get("holderIdentity") == self._identity
        count = old.get("leaseTransitions")
        transitions = count if isinstance(count, int) and not isinstance(count, bool) else 0
        acquired = old.get("acquireTime") if mine else None
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._terms.lease_s)),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or not old else transitions + 1,
        }


def _spec_of(lease: Manifest) -> dict[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}


def _duration_s(spec: Mapping[str, Any], default_s: float) -> float:
    """How long the holder wants the Lease to last; a number that makes no sense isn't waited for."""
    value = spec.get("leaseDurationSeconds")
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 3600:
        return float(value)
    return default_s
