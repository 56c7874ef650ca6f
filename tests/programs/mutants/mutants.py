"""Faults to put into the source one by one, each with the tests that must detect it."""

from __future__ import annotations

from .keys_and_jobs import KEYS_AND_JOBS
from .models import Mutant
from .reads import READS

ATTEMPTS = "tests/approvals/test_attempts.py"
REVOCATIONS = "tests/auth/test_revocations.py"
KEYS = "tests/api_keys/test_verifying.py"
ERASING = "tests/privacy/test_data_requests.py"
READING = "tests/db/test_reading.py"
REPLICA = "tests/db/test_read_replica.py"
LIMITS = "tests/web/test_rate_limits.py"
UNFINISHED = "tests/approvals/test_unfinished_approvals.py"
SESSIONS = "tests/auth/test_sessions.py"
BILLING = "tests/billing/test_client.py"
NONSENSE = "tests/billing/test_nonsense.py"
CONNECTIONS = "tests/billing/test_connections.py"
ODD_BILLING = "tests/approvals/test_odd_billing.py"
BREAKER = "tests/billing/test_protection.py"
COUNTS = "tests/candidates/test_counts.py"

SENDING = "tests/notifications/test_sending.py"
PRUNING = "tests/activity/test_pruning.py"
FEED = "tests/events/test_feed.py"
DELIVERING = "tests/webhooks/test_delivering.py"
GIVING_UP = "tests/webhooks/test_giving_up.py"
WEBHOOK_SENDING = "tests/webhooks/test_sending.py"

APPROVAL = "approvals/"
MAILS = "notifications/"
WEBHOOKS = "webhooks/"


def _release(name: str, statement: str, indent: str = "        ") -> Mutant:
    """A statement that releases a claim of any worker."""
    end = "WHERE candidate_id = :candidate_id AND claim_id = :claim_id"
    old = f"{statement}\n{indent}{end}"
    new = f"{statement}\n{indent}WHERE candidate_id = :candidate_id"
    return Mutant(name, APPROVAL + "queries.py", old, new, (ATTEMPTS,))


MUTANTS = (
    Mutant(
        "a candidate rejected during a call is reported as approved",
        APPROVAL + "attempt.py",
        "if candidate.provider_id != provider_id:",
        "if False:",
        (ATTEMPTS,),
    ),
    Mutant(
        "an orphan is not recorded",
        APPROVAL + "queries.py",
        "        WHERE NOT EXISTS (SELECT FROM candidates WHERE candidates.provider_id = otherwise.created_id)\n",
        "        WHERE false\n",
        (ATTEMPTS,),
    ),
    _release(
        "waiting overwrites another worker's claim",
        "last_error = CASE WHEN :was_called THEN :last_error ELSE coalesce(last_error, :last_error) END",
        indent="    ",
    ),
    _release(
        "a doubt overwrites another worker's claim",
        "SET claim_id = NULL, in_doubt_since = now(), last_error = :last_error",
    ),
    _release("another's claim is dropped", "DELETE FROM approval_intents"),
    Mutant(
        "408, 425 and 429 after a lost answer are in doubt",
        "billing/http_system.py",
        "frozenset({408, 425, 429})",
        "frozenset[int]()",
        (ATTEMPTS,),
    ),
    Mutant(
        "erasing locks no candidate",
        "privacy/queries.py",
        " FOR UPDATE\n",
        "\n",
        (ERASING + "::test_an_approval_that_begins_while_erasing_waits_is_seen",),
    ),
    Mutant(
        "erasing ends no session",
        "privacy/service.py",
        'await end_sessions(session, user_id, reason="erased")',
        "pass",
        (ERASING + "::test_an_erased_member_of_staff_is_logged_out_and_cannot_come_back",),
    ),
    Mutant(
        "revocations are trusted while the database is silent",
        "auth/revocations.py",
        "if _now() - self._polled_at > STALE_SECONDS:",
        "if False:",
        (REVOCATIONS,),
    ),
    Mutant(
        "a known API key that was revoked is accepted",
        "auth/service.py",
        "if await self._revocations.is_revoked(program.api_key_id):",
        "if False:",
        (KEYS,),
    ),
    Mutant(
        "a known API key never expires",
        "auth/keys.py",
        "return program if program and until > _now() and not program.has_expired else None",
        "return program if program and until > _now() else None",
        (KEYS,),
    ),
    Mutant(
        "remembered API keys have no limit",
        "auth/keys.py",
        "        if len(self._known) > MAX_KNOWN:\n",
        "        if len(self._known) < 0:\n",
        (KEYS,),
    ),
    Mutant(
        "API keys create API keys",
        "auth/dependencies.py",
        "    if not isinstance(caller, User):\n        raise PersonRequired\n",
        "",
        ("tests/api_keys/test_keys.py::test_people_manage_keys_and_their_own_sessions",),
    ),
    Mutant(
        "an approval of an API key is finished in the name of a user",
        "approvals/queries.py",
        "coalesce(actor.kind, 'service'), actor.id, event.version,",
        "'user', actor.id, event.version,",
        (ATTEMPTS,),
    ),
    Mutant(
        "revocations that are committed late are missed",
        "auth/revocations.py",
        "OVERLAP_SECONDS = 60 ",
        "OVERLAP_SECONDS = 0 ",
        (REVOCATIONS,),
    ),
    Mutant(
        "a lagging replica is treated as up to date",
        "db/reading.py",
        '                if not await session.scalar(HAS_REPLAYED, {"position": position}):\n'
        "                    raise _Behind\n"
        "                known[REPLAYED] = position\n",
        "                known[REPLAYED] = position\n"
        '                if not await session.scalar(HAS_REPLAYED, {"position": position}):\n'
        "                    raise _Behind\n",
        (REPLICA,),
    ),
    Mutant(
        "a promoted replica is not read",
        "db/reading.py",
        '"SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn()',
        '"SELECT pg_last_wal_replay_lsn()',
        (READING,),
    ),
    Mutant(
        "an unavailable replica is tried every time",
        "db/reading.py",
        "RETRY_SECONDS = 15.0",
        "RETRY_SECONDS = 0.0",
        (READING,),
    ),
    Mutant(
        "names are claimed in any order",
        APPROVAL + "queries.py",
        "        ORDER BY company_name\n",
        "",
        (ATTEMPTS,),
    ),
    Mutant(
        "waits between attempts do not grow",
        APPROVAL + "attempt.py",
        "FIRST_RETRY_SECONDS * 2 ** min(self._claim.attempts - 1, 10)",
        "FIRST_RETRY_SECONDS",
        (ATTEMPTS,),
    ),
    Mutant(
        "waits between retries do not grow",
        "billing/client.py",
        "FIRST_WAIT_SECONDS * 2 ** (state.attempt_number - 1)",
        "FIRST_WAIT_SECONDS",
        (BILLING,),
    ),
    Mutant(
        "the locks of logins are kept forever",
        "web/rate_limits.py",
        "                del self._login_turns[key]",
        "                pass",
        (LIMITS + "::test_nothing_is_kept_of_finished_logins",),
    ),
    # Faults fixed at the same time.
    Mutant(
        "an orphan is recorded at every attempt",
        APPROVAL + "queries.py",
        "AND known.type = 'candidate.provider_orphaned'",
        "AND false",
        (ATTEMPTS,),
    ),
    Mutant(
        "an approval of a rejected candidate never ends",
        APPROVAL + "queries.py",
        "(SELECT id FROM approved UNION ALL SELECT id FROM otherwise)",
        "(SELECT id FROM approved)",
        (ATTEMPTS,),
    ),
    Mutant(
        "the breaker counts an unusable response as a failure",
        "billing/client.py",
        "reachable=error.is_response",
        "reachable=False",
        (NONSENSE,),
    ),
    Mutant(
        "an unusable response is retried forever",
        APPROVAL + "attempt.py",
        "        if isinstance(error, BillingUnusable):\n            return True\n",
        "",
        (UNFINISHED,),
    ),
    Mutant(
        "another provider's name is accepted as ours",
        "billing/http_system.py",
        "if provider.name != name:",
        "if False:",
        (BILLING,),
    ),
    Mutant(
        "two recounts run concurrently",
        "candidates/counts.py",
        "        await session.execute(queries.LOCK_RECOUNT)\n",
        "",
        (COUNTS,),
    ),
    Mutant(
        "the sweep accepts a lease far in the future",
        APPROVAL + "queries.py",
        " OR next_attempt_at > clock_timestamp() + make_interval(secs => :longest_seconds)",
        " OR next_attempt_at > clock_timestamp() + 1000 * make_interval(secs => :longest_seconds)",
        (UNFINISHED,),
    ),
    Mutant(
        "invalid HTTP is not counted as a response",
        "billing/http_system.py",
        "INVALID_HTTP = (aiohttp.ClientResponseError, aiohttp.ClientPayloadError)",
        "INVALID_HTTP = ()",
        (NONSENSE,),
    ),
    Mutant(
        "a late response is read as that of the next approval",
        "billing/connections.py",
        " and _is_unusable(connection.protocol):\n            connection.close()",
        " and False:\n            connection.close()",
        (CONNECTIONS,),
    ),
    Mutant(
        "an endless response is not counted as a response",
        "billing/client.py",
        "            if call.has_responded:\n",
        "            if False:\n",
        (NONSENSE,),
    ),
    Mutant(
        "one request without a response pauses the others",
        "billing/protection.py",
        "if call is None or call != self._last_failed_call:",
        "if True:",
        (NONSENSE,),
    ),
    Mutant(
        "an approval without a response waits forever while others get one",
        APPROVAL + "attempt.py",
        "self._claim.attempts >= MAX_UNANSWERED and",
        "False and",
        (ODD_BILLING + "::test_an_approval_waits_while_billing_responds_to_none",),
    ),
    Mutant(
        "approvals that wait while billing is down are left to an admin",
        APPROVAL + "attempt.py",
        " and self._billing.breaker.responded_recently",
        "",
        (ODD_BILLING + "::test_an_approval_waits_while_billing_responds_to_none",),
    ),
    Mutant(
        "a decision accepts a lease far in the future",
        "candidates/queries.py",
        "clock_timestamp() + make_interval(secs => :longest_seconds)",
        "clock_timestamp() + 1000 * make_interval(secs => :longest_seconds)",
        (ATTEMPTS,),
    ),
    Mutant(
        "events of orphans are counted, not providers",
        APPROVAL + "queries.py",
        "count(DISTINCT data -> 'provider_id')",
        "count(data -> 'provider_id')",
        (UNFINISHED + "::test_a_provider_that_is_recorded_twice_as_an_orphan_is_counted_once",),
    ),
    Mutant(
        "revocations are polled on a connection of the request pool",
        "lifespan.py",
        "RevocationWatch(reserved)",
        "RevocationWatch(database)",
        ("tests/db/test_pressure.py::test_an_ended_session_is_known_though_every_connection_is_taken",),
    ),
    Mutant(
        "abandoned logins are still checked",
        "web/disconnects.py",
        "if await request.is_disconnected():",
        "if False:",
        ("tests/auth/test_login.py::test_a_login_abandoned_in_the_queue_is_skipped",),
    ),
    Mutant(
        "a refresh may be repeated for an hour",
        "auth/service.py",
        "GRACE_SECONDS = 10 ",
        "GRACE_SECONDS = 3600 ",
        (SESSIONS,),
    ),
    Mutant(
        "a half-open breaker admits every call",
        "billing/protection.py",
        "            self._next_probe = self._clock() + PROBE_SECONDS\n",
        "",
        (BREAKER,),
    ),
    Mutant(
        "a mail that may have arrived is sent again",
        MAILS + "service.py",
        "outcome = Outcome(State.UNKNOWN, str(error))",
        "outcome = _deferred(delivery, error)",
        (f"{SENDING}::test_a_mail_that_may_have_arrived_is_not_sent_again_by_itself",),
    ),
    Mutant(
        "erased companies get mails",
        MAILS + "queries.py",
        "WHERE id = :candidate_id AND contact_email <> {erased_email}",
        "WHERE id = :candidate_id",
        (f"{SENDING}::test_erased_people_get_no_mail",),
    ),
    Mutant(
        "an outage uses up the tries of mails",
        MAILS + "service.py",
        "            self._note_connection(error)\n            return False\n",
        "            self._note_connection(error)\n            return bool(await self._claim(targets))\n",
        (f"{SENDING}::test_while_the_mail_server_is_away_no_try_is_used_up_and_then_everything_arrives_once",),
    ),
    Mutant(
        "every try of a mail has a Message-ID of its own",
        MAILS + "composing.py",
        'return uuid5(NAMESPACE, f"{delivery_id} {created_at.astimezone(UTC).isoformat()}")',
        'return uuid5(NAMESPACE, f"{datetime.now(UTC)}")',
        (f"{SENDING}::test_after_a_crash_a_mail_arrives_at_most_twice_with_one_message_id",),
    ),
    Mutant(
        "a stop cuts off the mail under way",
        MAILS + "service.py",
        "for seconds in (STOP_SECONDS, STOP_RECORDING_SECONDS):",
        "for seconds in (0, STOP_RECORDING_SECONDS):",
        (f"{SENDING}::test_a_stop_waits_for_the_mail_under_way",),
    ),
    Mutant(
        "a reply is recorded with its text",
        MAILS + "mail_server.py",
        "reason = f\"{code}{f' {enhanced[0]}' if enhanced else ''} to {command}\"",
        'reason = f"{code} {text} to {command}"',
        (f"{SENDING}::test_addresses_and_names_are_in_no_log_metric_or_delivery",),
    ),
    Mutant(
        "certificates of mail servers are not checked",
        MAILS + "mail_server.py",
        "            tls_context=self._tls,\n",
        "            validate_certs=False,\n",
        ("tests/notifications/test_mail_server.py::test_certificates_are_checked",),
    ),
    Mutant(
        "the time of the answer tells whether an address is known",
        MAILS + "lost_links.py",
        "            await asyncio.sleep(ends - monotonic())\n",
        "            pass\n",
        ("tests/notifications/test_lost_links.py::test_the_answer_takes_as_long_for_an_unknown_address",),
    ),
    Mutant(
        "the sequence of a removed event is given again",
        "events/queries.py",
        "(SELECT sequence FROM pruned_sequences WHERE candidate_id = event.candidate_id),",
        "0,",
        (f"{PRUNING}::test_the_feed_says_where_it_begins_and_sequences_go_on",),
    ),
    Mutant(
        "the sequence of a kept event is given again",
        "events/queries.py",
        "ORDER BY event.id) + greatest(",
        "ORDER BY event.id) + coalesce(",
        (f"{PRUNING}::test_a_sequence_is_not_given_again_while_an_earlier_event_is_kept",),
    ),
    Mutant(
        "a reader that starts again reads events before those that were removed",
        "events/queries.py",
        "coalesce(CAST(:after AS bigint), pruned_position)",
        "coalesce(CAST(:after AS bigint), 0)",
        (f"{PRUNING}::test_a_reader_that_starts_again_reaches_the_end_though_events_are_kept",),
    ),
    Mutant(
        "a page of the feed without events does not go on",
        "events/feed.py",
        "else scanned_to or after or pruned)",
        "else events[-1].position if events else after or pruned)",
        (f"{FEED}::test_a_page_of_other_types_is_empty_and_goes_on",),
    ),
    Mutant(
        "a stream does not say where it begins",
        "events/feed_api.py",
        'yield f"id: {start}\\n{RETRY}\\n"',
        'yield f"{RETRY}\\n"',
        (f"{FEED}::test_a_stream_that_was_cut_before_its_first_event_goes_on_where_it_began",),
    ),
    Mutant(
        "a mail without a reply at a stop is sent again",
        MAILS + "mail_server.py",
        "except (Exception, asyncio.CancelledError) as error:",
        "except Exception as error:",
        (f"{SENDING}::test_a_mail_without_a_reply_when_the_service_stops_is_not_sent_again_by_itself",),
    ),
    Mutant(
        "a message about a removed decision says pending",
        WEBHOOKS + "queries.py",
        "        SELECT 2, 0, status, provider_id",
        "        SELECT 2, 0, 'pending', provider_id",
        (f"{DELIVERING}::test_the_status_stays_right_when_retention_has_removed_the_decision",),
    ),
    Mutant(
        "a message before a decision has its status once others were removed",
        WEBHOOKS + "queries.py",
        "AND NOT EXISTS (SELECT FROM logged WHERE NOT is_earlier AND type <> 'candidate.erased')",
        "AND true",
        (f"{DELIVERING}::test_an_event_before_a_decision_stays_pending_when_retention_has_removed_others",),
    ),
    Mutant(
        "an expired secret is kept",
        WEBHOOKS + "queries.py",
        "WHERE previous_secret_expires_at <= clock_timestamp()",
        "WHERE false",
        (f"{DELIVERING}::test_an_expired_secret_is_deleted",),
    ),
    Mutant(
        "an expired secret signs along",
        WEBHOOKS + "queries.py",
        "CASE WHEN previous_secret_expires_at > clock_timestamp() THEN previous_secret END AS",
        "previous_secret AS",
        (f"{DELIVERING}::test_the_old_secret_signs_along_for_a_day",),
    ),
    Mutant(
        "endless tiny chunks are read",
        WEBHOOKS + "sending.py",
        "self._left -= len(received)",
        "self._left -= 0",
        (f"{WEBHOOK_SENDING}::test_a_flood_of_tiny_parts_is_cut_off_and_others_have_their_turn",),
    ),
    Mutant(
        "a flood of tiny chunks lets nobody else have a turn",
        WEBHOOKS + "sending.py",
        "await asyncio.sleep(0)  # bytes",
        "pass  # bytes",
        (f"{WEBHOOK_SENDING}::test_a_flood_of_tiny_parts_is_cut_off_and_others_have_their_turn",),
    ),
    Mutant(
        "a replay misses what is being numbered",
        WEBHOOKS + "service.py",
        "await session.execute(queries.AWAIT_DISPATCHER)",
        "pass",
        (f"{DELIVERING}::test_a_replay_has_what_is_being_numbered_while_it_begins",),
    ),
    Mutant(
        "a response about an erased company is kept",
        "deliveries/queries.py",
        "WHEN (SELECT is_erased FROM erased) THEN",
        "WHEN false THEN",
        (f"{DELIVERING}::test_of_a_response_that_comes_after_the_erasure_only_the_status_is_kept",),
    ),
    Mutant(
        "a late success hides when a webhook was disabled",
        WEBHOOKS + "queries.py",
        "WHERE id = :webhook_id AND failing_since IS NOT NULL AND disabled_reason IS NULL",
        "WHERE id = :webhook_id AND failing_since IS NOT NULL",
        (f"{GIVING_UP}::test_a_late_success_does_not_hide_when_a_webhook_was_disabled",),
    ),
    *KEYS_AND_JOBS,
    *READS,
)
