"""Every Prometheus metric of the service. Labels take values from closed sets, so series stay bounded.

Several workers write into one folder, PROMETHEUS_MULTIPROC_DIR, and each of them shows the figures of all.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the client library's own variable

UP = Gauge(
    "provider_service_up", "1 while the service accepts requests, 0 before and after.", multiprocess_mode="livemax"
)
BUILD_INFO = Gauge(
    "provider_service_build_info",
    "1, with the version and the commit that run.",
    ["version", "commit"],
    multiprocess_mode="livemax",
)
REQUESTS = Counter(
    "provider_service_requests",  # the client library appends _total to a counter's name
    "Requests answered, by method, route template and status code.",
    ["method", "endpoint", "status_code"],
)
REQUEST_SECONDS = Histogram(
    "provider_service_request_duration_seconds",
    "Seconds until a request was answered, by method and route template.",
    ["method", "endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
REQUESTS_IN_FLIGHT = Gauge(
    "provider_service_requests_in_flight", "Requests that are not answered yet.", multiprocess_mode="livesum"
)
DATABASE_UP = Gauge(
    "provider_service_database_up",
    "1 while the database answers, 0 when it does not; it is asked all the time, also while nobody else asks.",
    multiprocess_mode="livemin",
)
OLDEST_TRANSACTION_SECONDS = Gauge(
    "provider_service_oldest_transaction_seconds",
    "Age of the oldest transaction open in the database, as of the last sweep; "
    "NaN when the role that serves may not see those of other roles.",
    multiprocess_mode="livemostrecent",
)
REPLICA_LAG_SECONDS = Gauge(
    "provider_service_replica_lag_seconds",
    "How far the replica of DATABASE_READ_URL is behind, as of the last sweep; +Inf when it does not answer.",
    multiprocess_mode="livemax",
)
DATABASE_CONNECTIONS_IN_USE = Gauge(
    "provider_service_database_connections_in_use",
    "Database connections that are doing something; DATABASE_POOL_SIZE a process at most.",
    multiprocess_mode="livesum",
)
DATABASE_WAITING = Gauge(
    "provider_service_database_waiting",
    "Statements and transactions that wait for a database connection.",
    multiprocess_mode="livesum",
)
DATABASE_WAIT_SECONDS = Histogram(
    "provider_service_database_wait_seconds",
    "Seconds that a statement or transaction waited for a database connection.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
CANDIDATES = Gauge(
    "provider_service_candidates",
    "Candidates, by status, as of the last sweep.",
    ["status"],
    multiprocess_mode="livemostrecent",
)
OLDEST_PENDING_SECONDS = Gauge(
    "provider_service_oldest_pending_candidate_seconds",
    "Age of the oldest candidate that nobody has decided about, as of the last sweep; 0 without any.",
    multiprocess_mode="livemostrecent",
)
LAST_SWEEP_TIMESTAMP = Gauge(
    "provider_service_last_sweep_timestamp_seconds",
    "Unix time of the last sweep that succeeded, or of the start.",
    multiprocess_mode="livemin",
)
BILLING_CALL_SECONDS = Histogram(
    "provider_service_billing_call_duration_seconds",
    "Seconds until a request to billing was answered or given up, by outcome as of billing_calls.",
    ["outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BILLING_CALLS = Counter(
    "provider_service_billing_calls",
    "Requests sent to billing, retries included, by outcome: "
    "created, name_taken, refused, not_sent, uncertain; circuit_open counts those that were held back.",
    ["outcome"],
)
BILLING_BREAKER = Gauge(
    "provider_service_billing_breaker",
    "State of the circuit breaker in front of billing: how many processes are in each.",
    ["provider_service_billing_breaker"],
    multiprocess_mode="livesum",
)
APPROVAL_ATTEMPTS = Counter(
    "provider_service_approval_attempts",
    "Attempts to carry out an approval, by outcome: approved, failed, name_taken, waiting, in_doubt, superseded.",
    ["outcome"],
)
APPROVALS_UNFINISHED = Gauge(
    "provider_service_approvals_unfinished",
    "Approvals that are not finished, by state, as of the last sweep.",
    ["state"],
    multiprocess_mode="livemostrecent",
)
OLDEST_APPROVAL_SECONDS = Gauge(
    "provider_service_oldest_approval_seconds",
    "Age of the oldest unfinished approval, as of the last sweep; 0 without any.",
    multiprocess_mode="livemostrecent",
)
ORPHANED_PROVIDERS = Gauge(
    "provider_service_orphaned_providers",
    "Providers that billing made and no candidate is linked to, as of the last sweep.",
    multiprocess_mode="livemostrecent",
)
RATE_LIMIT_REFUSALS = Counter(
    "provider_service_rate_limit_refusals",
    "Requests and connections refused because one caller has too many, by limit: login, registration, default, "
    "at_once, connections.",
    ["limit"],
)
RATE_LIMIT_STORAGE_ERRORS = Counter(
    "provider_service_rate_limit_storage_errors",
    "Times the storage of the rate limits failed; log-ins are refused meanwhile, everything else is let pass.",
)
LOG_LINES_DROPPED = Counter(
    "provider_service_log_lines_dropped",
    "Log lines that were not written, since nothing read standard error or it was closed.",
)
LOGINS = Counter(
    "provider_service_logins",
    "Tries to log in, by outcome: succeeded, failed, limited, unavailable.",
    ["outcome"],
)
REFRESHES = Counter(
    "provider_service_refreshes",
    "Refresh tokens shown, by outcome: succeeded, repeated, reused, expired, unknown.",
    ["outcome"],
)


def exposition() -> bytes:
    """Every metric in Prometheus' text format: this process's or, where several write into one folder, everyone's."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    if not folder:
        return generate_latest()
    for pid in {int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]  # the library has no types for it
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]  # as above
    return generate_latest(registry)
