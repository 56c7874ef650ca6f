"""Faults of lists and searches, conditional requests, statistics, similar companies, GraphQL and the command line."""

from __future__ import annotations

from .models import Mutant

SELECTIONS = "tests/candidates/test_selections.py"
LISTING = "tests/candidates/test_listing.py"
PRECONDITIONS = "tests/web/test_preconditions.py"
REVALIDATION = "tests/web/test_revalidation.py"
PAGINATION = "tests/web/test_pagination.py"
STATISTICS = "tests/statistics/test_statistics.py"
SIMILAR = "tests/similar/test_similar.py"
ACCESS = "tests/graphql_api/test_access.py"
GRAPHQL_LIMITS = "tests/graphql_api/test_limits.py"
GRAPHQL_READING = "tests/graphql_api/test_reading.py"
REMOTE = "tests/remote/test_candidates.py"
REMOTE_IMPORT = "tests/remote/test_import.py"

_OF_LISTS = (
    Mutant(
        "a typed ID finds candidates that the filters leave out",
        "candidates/list_queries.py",
        'return [f"({every}{typed_ids})"]',
        'return [f"{every}{typed_ids}"]',
        (SELECTIONS,),
    ),
    Mutant(
        "a word with a typing error finds candidates that the filters leave out",
        "candidates/search.py",
        "frozenset([*filters, *words]), filters | words",
        "frozenset(words), filters | words",
        (SELECTIONS,),
    ),
    Mutant(
        "rows with the same value in the column of the order are left out after a page",
        "candidates/list_queries.py",
        'beyond=f"({column}, id) {beyond} (:after, :after_id)"',
        'beyond=f"{column} {beyond} :after"',
        (SELECTIONS,),
    ),
    Mutant(
        "a period of registrations has the first moment after it",
        "candidates/selection.py",
        "created_at < CAST(:registered_to AS timestamptz)",
        "created_at <= CAST(:registered_to AS timestamptz)",
        (SELECTIONS,),
    ),
    Mutant(
        "pending candidates count as decided",
        "candidates/selection.py",
        "status <> 'pending' AND updated_at >= CAST(:decided_from AS timestamptz)",
        "updated_at >= CAST(:decided_from AS timestamptz)",
        (SELECTIONS,),
    ),
    Mutant(
        "ten thousand rows are not counted exactly",
        "candidates/search.py",
        'if rows[0]["total"] <= MAX_TOTAL:',
        'if rows[0]["total"] < MAX_TOTAL:',
        (SELECTIONS,),
    ),
    Mutant(
        "a stored selection with an unknown filter is read without it",
        "candidates/selection.py",
        'ConfigDict(extra="forbid")',
        'ConfigDict(extra="ignore")',
        (f"{SELECTIONS}::test_a_selection_is_kept_as_json",),
    ),
    Mutant(
        "a changed cursor is accepted",
        "web/pagination.py",
        "if position is None or position.to_cursor() != cursor:",
        "if position is None:",
        (f"{PAGINATION}::test_a_cursor_is_a_position_and_nothing_near_it_is",),
    ),
    Mutant(
        "the next page in the Link header has no filters",
        "web/links.py",
        '{"next": {**same, "cursor": next_cursor}}',
        '{"next": {"cursor": next_cursor}}',
        (LISTING,),
    ),
    Mutant(
        "an If-Match that cannot be read allows every version",
        "web/preconditions.py",
        "return frozenset(int(match[1]) for tag in tags if (match := VERSION_TAG.fullmatch(tag)))",
        "return frozenset(int(match[1]) for tag in tags if (match := VERSION_TAG.fullmatch(tag))) or None",
        (PRECONDITIONS,),
    ),
    Mutant(
        "caches may give a response to another user",
        "web/preconditions.py",
        '"private, no-cache"',
        '"public, no-cache"',
        (REVALIDATION,),
    ),
    Mutant(
        "a record that changed without its version is not sent",
        "web/preconditions.py",
        "return f'\"{version}\"' if body is None",
        "return f'\"{version}\"' if True",
        (f"{REVALIDATION}::test_while_an_approval_stands_every_change_of_the_record_changes_the_tag",),
    ),
)

_OF_STATISTICS = (
    Mutant(
        "two processes count the same events",
        "statistics/queries.py",
        "WHERE is_ready FOR UPDATE SKIP LOCKED",
        "WHERE is_ready",
        (f"{STATISTICS}::test_two_processes_count_each_event_once",),
    ),
    Mutant(
        "a candidate is pending after its decision",
        "statistics/queries.py",
        "statistics_day(updated_at), 0, -1, products, NULL, NULL FROM happened WHERE is_decision",
        "statistics_day(updated_at), 0, -1, products, NULL, NULL FROM happened WHERE is_decision AND false",
        (STATISTICS,),
    ),
    Mutant(
        "the text of a reason is kept in statistics",
        "statistics/queries.py",
        "->> rejection_reason, '{Reason.OTHER}')",
        "->> rejection_reason, rejection_reason)",
        (f"{STATISTICS}::test_no_text_of_a_reason_is_kept",),
    ),
    Mutant(
        "every role sees who decided how much",
        "statistics/api.py",
        "if query.by is Grouping.DECIDED_BY and not user.may_audit:",
        "if False:",
        ("tests/statistics/test_api.py::test_people_are_for_auditors_and_admins",),
    ),
    Mutant(
        "keys of a company that was erased meanwhile are stored",
        "similar/queries.py",
        "WHERE (candidates.company_name, candidates.contact_email, candidates.phone)\n"
        "              IS NOT DISTINCT FROM (made.company_name, made.contact_email, made.phone)\n",
        "WHERE true\n",
        (f"{SIMILAR}::test_what_was_erased_while_keys_were_computed_is_not_stored",),
    ),
)

_OF_GRAPHQL = (
    Mutant(
        "every role reads unfinished approvals by GraphQL",
        "graphql_api/fields.py",
        "if not loading.caller.may_audit:",
        "if False:",
        (f"{ACCESS}::test_each_role_may_read_what_it_may_read_in_the_api",),
    ),
    Mutant(
        "every role sees who decided how much by GraphQL",
        "graphql_api/fields.py",
        "if query.by is Grouping.DECIDED_BY and not loading.caller.may_audit:",
        "if False:",
        (f"{ACCESS}::test_each_role_may_read_what_it_may_read_in_the_api",),
    ),
    Mutant(
        "every role sees the errors of approvals in events by GraphQL",
        "graphql_api/loading.py",
        "with_errors = self.caller.may_audit",
        "with_errors = True",
        (GRAPHQL_READING, ACCESS),
    ),
    Mutant(
        "documents that are not allowed are executed",
        "graphql_api/executing.py",
        "not in self._allowed:",
        "in ():",
        (f"{ACCESS}::test_only_allowed_documents_are_executed",),
    ),
    Mutant(
        "a default value hides how much a variable asks for",
        "graphql_api/limits.py",
        "{**defaults, **self._variables}",
        "{**self._variables, **defaults}",
        (GRAPHQL_LIMITS,),
    ),
    Mutant(
        "a fragment is measured with the variables of the first operation",
        "graphql_api/limits.py",
        "        self._measured.clear()  # they may use the variables\n",
        "",
        (GRAPHQL_LIMITS,),
    ),
    Mutant(
        "what is inside a list counts once",
        "graphql_api/limits.py",
        "cost=1 + own + rows * inside.cost,",
        "cost=1 + own + inside.cost,",
        (f"{GRAPHQL_LIMITS}::test_the_cost_is_the_number_of_values_and_statements",),
    ),
    Mutant(
        "aliases are not counted",
        "graphql_api/limits.py",
        "aliases=(node.alias is not None) + inside.aliases,",
        "aliases=inside.aliases,",
        (GRAPHQL_LIMITS,),
    ),
    Mutant(
        "an expensive document counts as one request",
        "graphql_api/executing.py",
        "if further := checked.cost // COST_OF_A_REQUEST:",
        "if further := 0:",
        (f"{GRAPHQL_LIMITS}::test_cost_counts_against_the_callers_limit",),
    ),
    Mutant(
        "an unexpected error is shown to the caller",
        "graphql_api/responses.py",
        "return described | UNEXPECTED",
        'return described | UNEXPECTED | {"message": str(cause)}',
        (f"{ACCESS}::test_an_unexpected_error_shows_nothing_of_the_inside",),
    ),
)

_OF_COMMANDS = (
    Mutant(
        "a command decides on another version than it showed",
        "remote/commands.py",
        "if_match=tag, key=idempotency_key",
        'if_match="*", key=idempotency_key',
        (REMOTE,),
    ),
    Mutant(
        "a command repeats what may have been carried out",
        "remote/client.py",
        'is_certain = method == "GET" or refusal.code not in UNCERTAIN',
        "is_certain = True",
        (f"{REMOTE}::test_what_may_have_been_carried_out_is_left_to_the_user_with_the_key",),
    ),
    Mutant(
        "a command repeats a request whose response was lost",
        "remote/client.py",
        'if number == MAX_TRIES or method != "GET":',
        "if number == MAX_TRIES:",
        (f"{REMOTE_IMPORT}::test_a_file_that_may_have_been_taken_is_not_sent_again",),
    ),
    Mutant(
        "text from the service controls the terminal",
        "remote/access.py",
        'letter if letter.isprintable() else "\\N{REPLACEMENT CHARACTER}" for letter',
        "letter for letter",
        (f"{REMOTE}::test_text_from_the_service_does_not_control_the_terminal",),
    ),
    Mutant(
        "a password in the URL is in the error",
        "remote/client.py",
        '.copy_with(userinfo=b"")',
        "",
        (REMOTE,),
    ),
    Mutant(
        "a refused import stays stored",
        "remote/importing.py",
        '            client.delete_import(added["import_id"])\n',
        "            pass\n",
        (f"{REMOTE_IMPORT}::test_a_refusal_is_the_problem_in_a_sentence_and_leaves_nothing",),
    ),
)

READS = (*_OF_LISTS, *_OF_STATISTICS, *_OF_GRAPHQL, *_OF_COMMANDS)
