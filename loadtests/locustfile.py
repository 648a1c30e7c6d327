"""Locust load on one endpoint: closed loop with users, or open loop by a shape or a recorded trace.

    locust -f loadtests/locustfile.py --host SCORING_URL

Settings (docs/load-tests.md): SCOREFRONT_KEY or SCOREFRONT_SCORING_TOKEN, SCOREFRONT_PAYLOAD, SCOREFRONT_SHAPE,
SCOREFRONT_RATE, SCOREFRONT_SECONDS, and the thresholds SCOREFRONT_MAX_*.

Statistics are per version (`azureml-model-deployment`), failures per `x-ms-error-code`. In the open loop an arrival is
never delayed by a slow answer: each request runs in a greenlet of its own, response times begin at the arrival's time
in the schedule, and the lateness of the generator is reported.
"""

import gc
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import gevent
from gevent.event import AsyncResult
from locust import FastHttpUser, LoadTestShape, constant, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from autoscaler.simulation.trace import TracedRequest
from loadtests.arrivals import InvalidLoad
from loadtests.load_settings import THRESHOLDS, LoadSettings, load_settings

OPEN_LOOP = bool(os.environ.get("SCOREFRONT_SHAPE") or os.environ.get("SCOREFRONT_RATE"))
OPEN_CONNECTIONS = 10_000
"""Most requests at a time of an open-loop user; more would be late, which is reported."""
ANSWER_S = 30.0
PATIENCE_S = 300.0
"""Time after the last arrival for the last answers."""
LATENESS, UNFINISHED, SCHEDULE = "lateness_s", "unfinished", "schedule"
"""Names of messages between the processes of Locust."""
OWN = ""


class _Run:
    """State of this Locust process."""

    settings: LoadSettings | None = None
    lateness_s: ClassVar[list[float]] = []
    unfinished: ClassVar[dict[str, int]] = {}
    """Locust worker that has begun ("" for this process) -> 1 while it has arrivals or answers to come, then 0."""


def settings_of(environment: Environment) -> LoadSettings:
    """The settings, read once: a worker may be told to begin before its `init` event. A wrong one ends Locust."""
    if _Run.settings is None:
        try:
            _Run.settings = load_settings(os.environ, environment.host or "")
        except InvalidLoad as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
    return _Run.settings


def prepare(environment: Environment, **_: Any) -> None:
    """Read the settings before anything runs."""
    settings_of(environment)
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(SCHEDULE, answer_worker)


class ScoringUser(FastHttpUser):
    """A client of the endpoint. In the open loop one user per process sends all arrivals of that process."""

    wait_time = constant(0.0)
    concurrency = OPEN_CONNECTIONS if OPEN_LOOP else 10
    network_timeout = PATIENCE_S

    @task
    def run_load(self) -> None:
        """One request of the closed loop, or the whole schedule of the open loop."""
        settings = settings_of(self.environment)
        if settings.arrivals is None:
            self.score(settings.payload, time.perf_counter())
            return
        self._send_all(settings, self._own(settings.arrivals))
        raise StopUser

    def _own(self, arrivals: Sequence[TracedRequest]) -> Sequence[TracedRequest]:
        """The arrivals of this process: every n-th of n workers."""
        runner = self.environment.runner
        if not isinstance(runner, WorkerRunner):
            return arrivals
        return arrivals[runner.worker_index :: count_workers(runner)]

    def _send_all(self, settings: LoadSettings, arrivals: Sequence[TracedRequest]) -> None:
        # the collector's pauses grow with the greenlets that wait for answers, and would be lateness
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 1000)
        sending = []
        started = time.perf_counter()
        _Run.unfinished[OWN] = 1
        try:
            for request in arrivals:
                due = started + request.arrival_s
                pause_s = due - time.perf_counter()
                if pause_s > 0:
                    gevent.sleep(pause_s)
                _Run.lateness_s.append(max(0.0, time.perf_counter() - due))
                sending.append(gevent.spawn(self.score, settings.body(request), due))
                if len(sending) > OPEN_CONNECTIONS:
                    sending = [each for each in sending if not each.dead]
            gevent.joinall(sending, timeout=PATIENCE_S)
        finally:
            _Run.unfinished[OWN] = 0

    def score(self, body: str, due: float) -> None:
        """Send one request. `due`: its time on the performance counter; the response time begins there."""
        fields = dict(settings_of(self.environment).headers)
        with self.client.post("", data=body, headers=fields, catch_response=True) as answer:
            # Locust keeps unix times; the schedule is on the performance counter
            answer.request_meta["start_time"] = time.time() - (time.perf_counter() - due)  # noqa: TID251
            answer.request_meta["response_time"] = (time.perf_counter() - due) * 1000
            headers = answer.headers or {}
            answer.request_meta["name"] = headers.get("azureml-model-deployment", "no version")
            if answer.status_code == 200:
                answer.success()
            else:
                code = headers.get("x-ms-error-code", "no code")
                answer.failure(f"{answer.status_code} {code}")


if OPEN_LOOP:

    class ScheduledLoad(LoadTestShape):
        """One user per process until all arrivals are answered."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._created = time.perf_counter()

        def tick(self) -> tuple[int, float] | None:
            """(users, users per second); None ends the run."""
            arrivals = _Run.settings.arrivals if _Run.settings is not None else None
            last_s = arrivals[-1].arrival_s if arrivals else 0.0
            processes = max(1, self.runner.worker_count) if isinstance(self.runner, MasterRunner) else 1
            all_began = len(_Run.unfinished) >= processes
            overdue = time.perf_counter() - self._created > last_s + PATIENCE_S
            if overdue or (all_began and not any(_Run.unfinished.values())):
                return None
            return processes, float(processes)


# ---- several processes


def answer_worker(environment: Environment, msg: Any, **_: Any) -> None:
    """The master tells a worker how many they are."""
    assert isinstance(environment.runner, MasterRunner)
    count = max(1, environment.runner.worker_count)
    environment.runner.send_message(SCHEDULE, {"processes": count}, client_id=msg.node_id)


def count_workers(runner: WorkerRunner) -> int:
    """The number of workers, by asking the master. Raises StopUser without an answer."""
    answered: AsyncResult = AsyncResult()
    runner.register_message(SCHEDULE, lambda msg, **_: answered.set(msg.data["processes"]))
    runner.send_message(SCHEDULE)
    try:
        return int(answered.get(timeout=ANSWER_S))
    except gevent.Timeout:
        print(f"error: the master has not answered within {ANSWER_S:g} s", file=sys.stderr)
        raise StopUser from None


def report_lateness(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """A worker sends its lateness with its statistics."""
    data[LATENESS], _Run.lateness_s = _Run.lateness_s, []
    if OWN in _Run.unfinished:
        data[UNFINISHED] = _Run.unfinished[OWN]


def take_lateness(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """The master collects it."""
    _Run.lateness_s += data.get(LATENESS, [])
    if UNFINISHED in data:
        _Run.unfinished[client_id] = data[UNFINISHED]


def judge(environment: Environment, **_: Any) -> None:
    """Print the lateness and every missed threshold; a missed one makes the exit status 1."""
    total, settings = environment.stats.total, settings_of(environment)
    late_ms = _percentile_ms(_Run.lateness_s)
    if settings.arrivals is not None:
        print(f"lateness of {len(_Run.lateness_s)} arrivals: 99 % {late_ms:.2f} ms", file=sys.stderr)
    found = {
        "SCOREFRONT_MAX_FAILURE_PERCENT": total.fail_ratio * 100,
        "SCOREFRONT_MAX_P95_MS": total.get_response_time_percentile(0.95) or 0.0,
        "SCOREFRONT_MAX_P99_MS": total.get_response_time_percentile(0.99) or 0.0,
        "SCOREFRONT_MAX_LATENESS_MS": late_ms,
    }
    missed = {name: limit for name, limit in settings.thresholds.items() if found[name] > limit}
    for name, limit in missed.items():
        print(f"missed: {THRESHOLDS[name]}: {found[name]:.2f} > {limit:g} ({name})", file=sys.stderr)
    if missed or not total.num_requests:
        environment.process_exit_code = 1
    elif settings.thresholds and environment.process_exit_code is None:
        environment.process_exit_code = 0  # with thresholds, single failures do not decide


def _percentile_ms(seconds: Sequence[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000 if ordered else 0.0


LISTENERS = (
    (events.init, prepare),
    (events.report_to_master, report_lateness),
    (events.worker_report, take_lateness),
    (events.quitting, judge),
)
for hook, listener in LISTENERS:
    hook.add_listener(listener)  # type: ignore[no-untyped-call]
