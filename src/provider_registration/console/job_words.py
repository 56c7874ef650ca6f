"""The words for jobs and their results, in the console."""

from __future__ import annotations

from provider_registration.bulk.models import APPROVE, REJECT
from provider_registration.imports.service import CHECK, REGISTER
from provider_registration.jobs.models import CancelReason, Job, JobState

KINDS = {APPROVE: "Approve", REJECT: "Reject"}
PARTS = {CHECK: "Check a file of companies", REGISTER: "Import a file of companies"}  # in parts
STATES = {
    JobState.QUEUED: "Queued",
    JobState.RUNNING: "Running",
    JobState.DONE: "Done",
    JobState.CANCELLED: "Stopped",
}
CANCEL_REASONS = {
    CancelReason.ASKED: "It was stopped. What had not been decided was left as it was.",
    CancelReason.ACTOR_NOT_ALLOWED: "It was stopped: its creator may no longer decide.",
}
# By status, or by code if it failed.
RESULTS = {
    "approved": "Approved",
    "rejected": "Rejected",
    "checked": "Checked",
    "imported": "Imported",
    "import-not-found": "The import was deleted",
    "queued": "Waiting",
    "running": "In progress",
    "cancelled": "Not started",
    "candidate-not-found": "Not found",
    "candidate-not-pending": "Was already decided",
    "version-mismatch": "Was changed or decided after you selected it",
    "candidate-changed": "Was decided by someone else at the same time",
    "approval-in-progress": "An approval was already in progress",
    "approval-unfinished": "An approval is waiting for billing",
    "approval-needs-resolution": "An approval needs checking",
    "approval-in-doubt": "Needs checking: billing may have created the provider",
    "approval-waiting": "Billing has not confirmed yet; we retry automatically",
    "approval-failed": "Billing failed; nothing changed",
    "billing-paused": "Billing did not respond; nothing changed",
    "provider-name-busy": "An approval of the same name is unfinished",
    "provider-name-taken": "Billing has another provider with this name",
    "database-unavailable": "The database did not respond",
    "internal-error": "Failed because of an error in the service",
}


def title_of(job: Job) -> str:
    """What a job does."""
    if job.kind in PARTS:
        return PARTS[job.kind]
    noun = "candidate" if job.total == 1 else "candidates"
    return f"{KINDS.get(job.kind, job.kind)} {job.total:,} {noun}"


def progress_of(job: Job) -> str:
    """How much of a job is done."""
    noun = "" if job.kind not in PARTS else " part" if job.total == 1 else " parts"
    return f"{job.done:,} of {job.total:,}{noun}"


def result_of(key: str) -> str:
    """What a status or the code of an error means."""
    return RESULTS.get(key, key)
