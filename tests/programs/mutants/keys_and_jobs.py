"""Faults of API keys, idempotency keys, jobs, decisions about many candidates, and imports."""

from __future__ import annotations

from .models import Mutant

API_KEYS = "tests/api_keys/test_keys.py"
VERIFYING = "tests/api_keys/test_verifying.py"
TAKING = "tests/idempotency/test_service.py"
KEYED_DECISIONS = "tests/idempotency/test_decisions.py"
KEYED_REGISTRATIONS = "tests/idempotency/test_registration.py"
RUNNER = "tests/jobs/test_runner.py"
DECISIONS = "tests/bulk/test_decisions.py"
ACTORS = "tests/bulk/test_actors.py"
DECIDING = "tests/bulk/test_deciding.py"
IMPORTING = "tests/imports/test_importing.py"
SENDING = "tests/imports/test_sending.py"
FILES = "tests/imports/test_files.py"
REGISTERING = "tests/imports/test_registering.py"

_OF_API_KEYS = (
    Mutant(
        "an API key itself is stored, not its hash",
        "auth/keys.py",
        "return hashlib.sha256(key.encode()).digest()",
        "return key.encode()[-32:]",
        (f"{API_KEYS}::test_a_key_is_shown_once_and_only_its_hash_is_stored",),
    ),
    Mutant(
        "an API key may do what an admin may",
        "auth/keys.py",
        "Program(row.id, row.expires_at, role=Role(row.role))",
        "Program(row.id, row.expires_at, role=Role.ADMIN)",
        (f"{API_KEYS}::test_a_key_may_do_what_its_role_may",),
    ),
    Mutant(
        "a look-up finds a revoked API key",
        "auth/queries.py",
        "WHERE key_hash = ANY(:hashes) AND revoked_at IS NULL",
        "WHERE key_hash = ANY(:hashes)",
        (VERIFYING,),
    ),
    Mutant(
        "an API key that has expired is accepted when it is looked up",
        "auth/keys.py",
        "if program is None or program.has_expired:",
        "if program is None:",
        (f"{API_KEYS}::test_a_key_works_until_it_expires",),
    ),
    Mutant(
        "the process that revokes an API key learns of it later",
        "api_keys/service.py",
        "        self._on_revoked(api_key_id)\n",
        "",
        (f"{VERIFYING}::test_a_key_revoked_between_its_look_up_and_its_use_is_refused",),
    ),
    Mutant(
        "an API key is revoked again, at another time",
        "api_keys/queries.py",
        "WHERE id = :api_key_id AND revoked_at IS NULL",
        "WHERE id = :api_key_id",
        (f"{API_KEYS}::test_a_revoked_key_is_refused_at_once_and_stays_listed",),
    ),
    Mutant(
        "uses of API keys that could not be stored are forgotten",
        "auth/keys.py",
        "self._used = used | self._used",
        "pass",
        (f"{VERIFYING}::test_uses_that_could_not_be_stored_are_stored_later",),
    ),
    Mutant(
        "a use of an API key that could not be stored replaces a later one",
        "auth/keys.py",
        "self._used = used | self._used",
        "self._used = self._used | used",
        (f"{VERIFYING}::test_a_use_during_a_write_that_fails_is_stored_and_not_the_one_before",),
    ),
)

_OF_IDEMPOTENCY_KEYS = (
    Mutant(
        "another request with the same idempotency key gets the first one's response",
        "idempotency/service.py",
        'if row["fingerprint"] != key.fingerprint:',
        "if False:",
        (f"{TAKING}::test_other_content_is_refused",),
    ),
    Mutant(
        "an idempotency key that is held is new",
        "idempotency/service.py",
        'None if row["is_locked"] else KeyInUse()',
        "None",
        (f"{TAKING}::test_a_key_that_is_held_is_in_use_at_once",),
    ),
    Mutant(
        "what was kept while an idempotency key was locked is not found",
        "idempotency/service.py",
        'if row["is_locked"] and row["answer"] is None]:',
        "if False]:",
        (TAKING,),
    ),
    Mutant(
        "kept answers count forever",
        "idempotency/queries.py",
        "kept.created_at > clock_timestamp() - make_interval(hours => :lifetime_hours))",
        "kept.created_at > clock_timestamp() - 1000 * make_interval(hours => :lifetime_hours))",
        (f"{TAKING}::test_an_expired_key_is_new_and_can_be_kept_again",),
    ),
    Mutant(
        "an answer that is kept again has expired",
        "idempotency/queries.py",
        "        answer = EXCLUDED.answer,\n        created_at = EXCLUDED.created_at\n",
        "        answer = EXCLUDED.answer\n",
        (f"{TAKING}::test_an_expired_key_is_new_and_can_be_kept_again",),
    ),
    Mutant(
        "the answer to an approval that took a day has expired",
        "idempotency/queries.py",
        "SET answer = CAST(:answer AS jsonb), created_at = clock_timestamp()",
        "SET answer = CAST(:answer AS jsonb)",
        (f"{TAKING}::test_the_answer_to_an_approval_that_took_long_is_kept_from_then_on",),
    ),
    Mutant(
        "the idempotency keys of all staff are the same",
        "idempotency/dependencies.py",
        'f"{actor.kind}:{actor.id}"',
        'f"{actor.kind}"',
        (f"{KEYED_DECISIONS}::test_the_key_counts_for_one_caller_and_path",),
    ),
    Mutant(
        "an idempotency key counts for every path",
        "idempotency/dependencies.py",
        "request.method, route_path(request.scope), sent",
        "request.method, sent",
        (f"{KEYED_DECISIONS}::test_the_key_counts_for_one_caller_and_path",),
    ),
    Mutant(
        "the idempotency key of an unfinished approval expires",
        "idempotency/queries.py",
        "OR NOT EXISTS (SELECT FROM approval_intents WHERE candidate_id = kept.candidate_id)",
        "OR true",
        (f"{KEYED_DECISIONS}::test_the_key_of_an_unfinished_approval_does_not_expire",),
    ),
    Mutant(
        "the idempotency keys of all companies are the same",
        "candidates/keyed_registrations.py",
        'Key.of("registration", email, sent,',
        'Key.of("registration", sent,',
        (f"{KEYED_REGISTRATIONS}::test_the_key_counts_for_one_address",),
    ),
    Mutant(
        "a refused registration is not kept for its key",
        "candidates/keyed_registrations.py",
        "            if email in holders:\n",
        "            if False:\n",
        (f"{KEYED_REGISTRATIONS}::test_a_refusal_is_kept_too",),
    ),
    Mutant(
        "erasure leaves what is kept for idempotency keys",
        "privacy/queries.py",
        "DELETE FROM idempotency_keys WHERE candidate_id = :candidate_id",
        "DELETE FROM idempotency_keys WHERE false",
        (f"{KEYED_REGISTRATIONS}::test_erasure_deletes_what_is_kept",),
    ),
)

_OF_JOBS = (
    Mutant(
        "a job is taken from the process that works on it",
        "jobs/queries.py",
        "          AND due_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + "
        "make_interval(secs => :longest_seconds)\n",
        "",
        (RUNNER,),
    ),
    Mutant(
        "the job that was posted last is worked on first",
        "jobs/queries.py",
        "        ORDER BY due_at\n        LIMIT 1\n",
        "        ORDER BY due_at DESC\n        LIMIT 1\n",
        (RUNNER,),
    ),
    Mutant(
        "an item of a process that died is never started again",
        "jobs/queries.py",
        "(items.claim_id <> :claim_id\n               OR",
        "(false\n               OR",
        (f"{RUNNER}::test_a_process_that_died_is_replaced_and_the_item_that_it_held_is_started_again",),
    ),
    Mutant(
        "the late result of a process that lost the job counts",
        "jobs/queries.py",
        "WHERE id = :job_id AND claim_id = :claim_id FOR NO KEY UPDATE\n    ), ended AS (\n"
        "        UPDATE job_items AS items\n"
        "        SET status = :status, code = :code, due_at = NULL\n"
        "        FROM held\n"
        "        WHERE items.job_id = held.id AND items.number = :number AND items.claim_id = :claim_id "
        "AND items.status IS NULL\n",
        "WHERE id = :job_id AND CAST(:claim_id AS uuid) IS NOT NULL FOR NO KEY UPDATE\n    ), ended AS (\n"
        "        UPDATE job_items AS items\n"
        "        SET status = :status, code = :code, due_at = NULL\n"
        "        FROM held\n"
        "        WHERE items.job_id = held.id AND items.number = :number\n",
        (f"{RUNNER}::test_a_process_that_died_is_replaced_and_the_item_that_it_held_is_started_again",),
    ),
    Mutant(
        "a cancelled job goes on",
        "jobs/queries.py",
        "OR items.claim_id IS NULL AND held.state = 'running'\n",
        "OR items.claim_id IS NULL\n",
        (RUNNER,),
    ),
    Mutant(
        "the attempts at an item are not counted",
        "jobs/queries.py",
        "attempts = items.attempts + 1",
        "attempts = greatest(items.attempts, 1)",
        (f"{RUNNER}::test_an_item_that_cannot_be_done_now_is_tried_again_and_gets_its_error_in_the_end",),
    ),
    Mutant(
        "an item gets one attempt more",
        "jobs/runner.py",
        "if item.attempts >= min(",
        "if item.attempts > min(",
        (f"{RUNNER}::test_an_item_that_cannot_be_done_now_is_tried_again_and_gets_its_error_in_the_end",),
    ),
    Mutant(
        "a job loses its lease while an item takes long",
        "jobs/runner.py",
        "        if not ended:\n",
        "        if False:\n",
        (f"{RUNNER}::test_a_slow_item_keeps_its_lease",),
    ),
    Mutant(
        "a job goes on though who posted it may not decide any more",
        "jobs/runner.py",
        "if not await may_act(self._job.actor):",
        "if False:",
        (f"{RUNNER}::test_a_job_stops_when_who_posted_it_may_not_act_any_more",),
    ),
    Mutant(
        "a result is dropped as soon as the database does not respond",
        "jobs/runner.py",
        "if loop.time() > ends:",
        "if True:",
        (f"{RUNNER}::test_a_result_is_recorded_once_the_database_responds_again",),
    ),
    Mutant(
        "the parameters of a job are kept when it has ended",
        "jobs/queries.py",
        "        parameters = CASE WHEN NOT (is_done OR state = 'cancelled') THEN parameters END,\n",
        "",
        (f"{RUNNER}::test_the_parameters_are_deleted_when_the_job_ends",),
    ),
    Mutant(
        "one job more than the limit may be unfinished",
        "jobs/queries.py",
        "WHERE (SELECT count(*) FROM jobs WHERE due_at IS NOT NULL) < :limit",
        "WHERE (SELECT count(*) FROM jobs WHERE due_at IS NOT NULL) <= :limit",
        (f"{RUNNER}::test_there_are_not_too_many_jobs_nor_two_with_one_id",),
    ),
    Mutant(
        "a cancelled job is deleted though a process works on its items",
        "jobs/queries.py",
        "make_interval(days => :days) AND due_at IS NULL",
        "make_interval(days => :days)",
        (f"{RUNNER}::test_only_old_jobs_that_ended_are_deleted",),
    ),
)

_OF_DECISIONS = (
    Mutant(
        "the approval of another is reported as the job's",
        "bulk/deciding.py",
        "if found is None or not found.is_ours:",
        "if found is None:",
        (f"{DECIDING}::test_what_another_has_decided_is_not_the_result_of_the_job",),
    ),
    Mutant(
        "an approval by the job is reported as another's if its process died",
        "bulk/deciding.py",
        "if found is None or not found.is_ours:",
        "if True:",
        (DECIDING,),
    ),
    Mutant(
        "an approval that could not begin is reported as done",
        "bulk/deciding.py",
        "raise TryLater(error.code, attempts=BUSY_ATTEMPTS) from error",
        "pass",
        (f"{DECIDING}::test_a_company_whose_name_is_being_approved_for_another_is_not_approved",),
    ),
    Mutant(
        "a selection of as many as a page has does not say that there are more",
        "bulk/service.py",
        "while len(items) <= matching.at_most:",
        "while len(items) < matching.at_most:",
        (f"{DECIDING}::test_a_selection_says_whether_there_were_more_also_at_the_end_of_a_page",),
    ),
    Mutant(
        "the rejection by another is reported as the job's",
        "bulk/deciding.py",
        "if not await session.scalar(queries.HAS_REJECTED, keys):",
        "if False:",
        (f"{DECIDING}::test_what_another_has_decided_is_not_the_result_of_the_job",),
    ),
    Mutant(
        "a rejection by the job is reported as another's if its process died",
        "bulk/deciding.py",
        "if not await session.scalar(queries.HAS_REJECTED, keys):",
        "if True:",
        (DECIDING,),
    ),
    Mutant(
        "a job decides candidates at any version",
        "bulk/deciding.py",
        "return frozenset({item.version}) if item.version is not None else None",
        "return None",
        (f"{DECISIONS}::test_each_of_500_gets_the_code_of_the_request_for_one_in_the_order_asked",),
    ),
    Mutant(
        "a job sends e-mails though it should not",
        "bulk/deciding.py",
        'notify=job.parameters["notify"],',
        "notify=True,",
        (DECIDING,),
        times=2,
    ),
    Mutant(
        "the idempotency key of a job is not kept",
        "bulk/service.py",
        "                if key:\n",
        "                if False:\n",
        (f"{DECISIONS}::test_the_same_key_again_does_nothing_and_another_body_is_refused",),
    ),
    Mutant(
        "one candidate more than allowed is decided",
        "bulk/service.py",
        "return items[: matching.at_most],",
        "return items[: matching.at_most + 1],",
        (f"{DECISIONS}::test_of_a_selection_at_most_so_many_are_decided",),
    ),
)

_OF_IMPORTS = (
    Mutant(
        "rows that were erased while they were checked are registered",
        "imports/registering.py",
        "left = set(await session.scalars(queries.LOCK_ROWS, part))",
        "left = {row.position for row in rows}",
        (f"{REGISTERING}::test_a_row_that_is_erased_while_it_is_checked_is_left_out",),
    ),
    Mutant(
        "the cells of registered rows are kept",
        "imports/queries.py",
        "cells = CASE WHEN :is_done AND result.outcome <> 'invalid' THEN NULL ELSE stored.cells END",
        "cells = CASE WHEN :is_done AND false THEN NULL ELSE stored.cells END",
        (f"{IMPORTING}::test_registered_rows_are_not_kept",),
    ),
    Mutant(
        "the last row of each part is not registered",
        "imports/registering.py",
        '"until": after + ROWS_IN_PART,',
        '"until": after + ROWS_IN_PART - 1,',
        (f"{REGISTERING}::test_the_rows_at_the_end_of_a_part_are_registered",),
    ),
    Mutant(
        "a running import can be started again",
        "imports/service.py",
        'if not row["is_idle"]:',
        "if False:",
        (f"{IMPORTING}::test_a_running_import_cannot_be_started_or_deleted",),
    ),
    Mutant(
        "a cancelled import is deleted or started though a process works on its rows",
        "imports/queries.py",
        "imports.is_read AND jobs.due_at IS NULL AS is_idle",
        "imports.is_read AND coalesce(jobs.state IN ('done', 'cancelled'), true) AS is_idle",
        (f"{IMPORTING}::test_a_running_import_cannot_be_started_or_deleted",),
    ),
    Mutant(
        "a file sent again with its key is another import",
        "imports/service.py",
        "            if key:\n",
        "            if False:\n",
        (f"{IMPORTING}::test_a_repeated_request_with_its_key_returns_the_same_import",),
    ),
    Mutant(
        "an import sends e-mails though it should not",
        "imports/registering.py",
        'if not job.parameters["notify"]:',
        "if False:",
        (f"{IMPORTING}::test_the_history_names_who_imported_and_which_import",),
    ),
    Mutant(
        "a file whose reader died is stored as far as it was read",
        "imports/service.py",
        "                await asyncio.shield(self._forget(import_id))\n",
        "",
        (SENDING,),
    ),
    Mutant(
        "a workbook may define entities",
        "imports/workbooks.py",
        "        parser.StartDoctypeDeclHandler = _refuse_doctype\n",
        "",
        (f"{FILES}::test_a_hostile_or_empty_file_is_refused",),
    ),
    Mutant(
        "a part of a workbook may have any size",
        "imports/workbooks.py",
        "if read > MAX_XML_BYTES:",
        "if False:",
        (f"{FILES}::test_a_hostile_or_empty_file_is_refused",),
    ),
)

KEYS_AND_JOBS = (*_OF_API_KEYS, *_OF_IDEMPOTENCY_KEYS, *_OF_JOBS, *_OF_DECISIONS, *_OF_IMPORTS)
