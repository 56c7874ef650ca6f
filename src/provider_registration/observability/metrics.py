"""All Prometheus metrics of the service. Labels have fixed sets of values, so the number of series is bounded.

Several workers write to one folder, PROMETHEUS_MULTIPROC_DIR, and each of them exposes the metrics of all.
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
    "1, with the running version and commit.",
    ["version", "commit"],
    multiprocess_mode="livemax",
)
REQUESTS = Counter(
    "provider_service_requests",  # the client library appends _total to a counter's name
    "Requests, by method, route template and status code.",
    ["method", "endpoint", "status_code"],
)
REQUEST_SECONDS = Histogram(
    "provider_service_request_duration_seconds",
    "Response time in seconds, by method and route template.",
    ["method", "endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
REQUESTS_IN_FLIGHT = Gauge("provider_service_requests_in_flight", "Requests in progress.", multiprocess_mode="livesum")
DATABASE_UP = Gauge(
    "provider_service_database_up",
    "1 while the database responds, else 0; it is checked continuously, even without requests.",
    multiprocess_mode="livemin",
)
OLDEST_TRANSACTION_SECONDS = Gauge(
    "provider_service_oldest_transaction_seconds",
    "Age of the oldest open transaction in the database, as of the last sweep; "
    "NaN if the serving role cannot see the transactions of other roles.",
    multiprocess_mode="livemostrecent",
)
TRANSACTIONS_SINCE_OLDEST = Gauge(
    "provider_service_transactions_since_oldest",
    "Transactions of the server that began after the oldest one for which it keeps old row versions, as of the last "
    "sweep; NaN if the serving role cannot see the transactions of other roles.",
    multiprocess_mode="livemostrecent",
)
REPLICA_LAG_SECONDS = Gauge(
    "provider_service_replica_lag_seconds",
    "Lag of the replica at DATABASE_READ_URL, as of the last sweep; +Inf if it does not respond.",
    multiprocess_mode="livemax",
)
DATABASE_CONNECTIONS_IN_USE = Gauge(
    "provider_service_database_connections_in_use",
    "Active database connections; at most DATABASE_POOL_SIZE + 1 per process, and DATABASE_POOL_SIZE to a replica.",
    multiprocess_mode="livesum",
)
DATABASE_WAITING = Gauge(
    "provider_service_database_waiting",
    "Statements and transactions waiting for a database connection.",
    multiprocess_mode="livesum",
)
DATABASE_WAIT_SECONDS = Histogram(
    "provider_service_database_wait_seconds",
    "Time in seconds that statements and transactions waited for a database connection.",
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
    "Age of the oldest pending candidate, as of the last sweep; 0 if there is none.",
    multiprocess_mode="livemostrecent",
)
LAST_SWEEP_TIMESTAMP = Gauge(
    "provider_service_last_sweep_timestamp_seconds",
    "Unix time of the last successful sweep, or of the start.",
    multiprocess_mode="livemin",
)
BILLING_CALL_SECONDS = Histogram(
    "provider_service_billing_call_duration_seconds",
    "Time in seconds until billing responded or the request failed, by outcome as in billing_calls.",
    ["outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BILLING_CALLS = Counter(
    "provider_service_billing_calls",
    "Requests sent to billing, retries included, by outcome: "
    "created, name_taken, refused, not_sent, uncertain; circuit_open counts those not sent because calls are paused.",
    ["outcome"],
)
BILLING_BREAKER = Gauge(
    "provider_service_billing_breaker",
    "Number of processes with the billing circuit breaker in each state.",
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
    "Unfinished approvals, by state, as of the last sweep.",
    ["state"],
    multiprocess_mode="livemostrecent",
)
OLDEST_APPROVAL_SECONDS = Gauge(
    "provider_service_oldest_approval_seconds",
    "Age of the oldest unfinished approval, as of the last sweep; 0 if there is none.",
    multiprocess_mode="livemostrecent",
)
ORPHANED_PROVIDERS = Gauge(
    "provider_service_orphaned_providers",
    "Providers ever recorded as linked to no candidate, as of the last sweep, even if deleted in billing since.",
    multiprocess_mode="livemostrecent",
)
EVENTS_DISPATCHED = Counter(
    "provider_service_events_dispatched",
    "Events that got their position in the feed.",
)
LAST_DISPATCH_TIMESTAMP = Gauge(
    "provider_service_last_dispatch_timestamp_seconds",
    "Unix time of the last successful check of the queue of events, or of the start.",
    multiprocess_mode="livemax",
)
OLDEST_UNCOUNTED_SECONDS = Gauge(
    "provider_service_oldest_uncounted_event_seconds",
    "Age of the oldest event in the feed that the statistics have not counted; 0 if there is none.",
    multiprocess_mode="livemostrecent",
)
EVENT_STREAMS = Gauge("provider_service_event_streams", "Open streams of events.", multiprocess_mode="livesum")
EVENTS_PUBLISHED = Counter(
    "provider_service_events_published",
    "Events that the broker stored, repeated ones included.",
)
OLDEST_UNPUBLISHED_SECONDS = Gauge(
    "provider_service_oldest_unpublished_event_seconds",
    "Age of the oldest event that is not published to the broker; 0 if there is none, or no broker.",
    multiprocess_mode="livemostrecent",
)
DELIVERIES = Counter(
    "provider_service_deliveries",
    "Attempts to deliver a message, by kind and outcome: delivered, retried, failed, dead, unknown.",
    ["kind", "outcome"],
)
OLDEST_DELIVERY_SECONDS = Gauge(
    "provider_service_oldest_delivery_seconds",
    "Age of the oldest message that is not delivered and still being tried, by kind; 0 if there is none.",
    ["kind"],
    multiprocess_mode="livemostrecent",
)
MAIL_OUTAGE_SECONDS = Gauge(
    "provider_service_mail_outage_seconds",
    "Time in seconds for which the mail server could not be used, as of the last attempt; 0 if it can be used.",
    multiprocess_mode="livemostrecent",
)
WEBHOOK_ATTEMPT_SECONDS = Histogram(
    "provider_service_webhook_attempt_duration_seconds",
    "Time in seconds of an attempt, with name resolution.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0),
)
WEBHOOKS = Gauge(
    "provider_service_webhooks",
    "Webhooks, by state: working, failing, disabled (by staff), given_up (disabled by the service).",
    ["state"],
    multiprocess_mode="livemostrecent",
)
WEBHOOK_FAILING_SECONDS = Gauge(
    "provider_service_webhook_failing_seconds",
    "For how long every attempt has failed at the webhook where this is longest; 0 if there is none.",
    multiprocess_mode="livemostrecent",
)
JOB_ITEMS = Counter(
    "provider_service_job_items",
    "Attempts at items of jobs, by kind and outcome: approved, rejected, checked, imported, failed, "
    "put_off (tried again later).",
    ["kind", "outcome"],
)
JOBS_UNFINISHED = Gauge(
    "provider_service_jobs_unfinished",
    "Jobs that are not done, by state: queued, running.",
    ["state"],
    multiprocess_mode="livemostrecent",
)
JOB_STALLED_SECONDS = Gauge(
    "provider_service_job_stalled_seconds",
    "Time in seconds since an item was last started, of the unfinished job where this is longest; 0 if there is none.",
    multiprocess_mode="livemostrecent",
)
RATE_LIMIT_REFUSALS = Counter(
    "provider_service_rate_limit_refusals",
    "Requests and connections refused because a caller has too many, by limit: login, registration, default, "
    "lost_link, at_once, connections.",
    ["limit"],
)
RATE_LIMIT_STORAGE_ERRORS = Counter(
    "provider_service_rate_limit_storage_errors",
    "Failures of the rate limit storage; sign-ins are then refused, and other requests are not limited.",
)
LOG_LINES_DROPPED = Counter(
    "provider_service_log_lines_dropped",
    "Log lines dropped because standard error was closed or not read.",
)
LOGINS = Counter(
    "provider_service_logins",
    "Sign-in attempts, by outcome: succeeded, failed, limited, unavailable.",
    ["outcome"],
)
REFRESHES = Counter(
    "provider_service_refreshes",
    "Uses of refresh tokens, by outcome: succeeded, repeated, reused, expired, unknown.",
    ["outcome"],
)
EVENTS_PRUNED = Counter(
    "provider_service_events_pruned",
    "Events removed from the logs because they were older than RETENTION_EVENTS_DAYS.",
)


def exposition() -> bytes:
    """All metrics in Prometheus's text format, of this process or of all workers that share a folder."""
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
