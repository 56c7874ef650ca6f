"""Every Prometheus metric of the service. Labels take values from closed sets, so series stay bounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

UP = Gauge("provider_service_up", "1 while the service accepts requests, 0 before and after.")
REQUESTS = Counter(
    "provider_service_requests",  # the client library appends _total
    "Requests answered, by method, route template and status code.",
    ["method", "endpoint", "status_code"],
)
