"""The committed OpenAPI document is that of the code, and a change of it breaks no client of the last release."""

from __future__ import annotations

import json

from tests.clients.changes import Comparison
from tests.clients.document import DOCUMENT, RELEASED, as_text, document


def test_the_committed_document_is_that_of_the_code():
    assert DOCUMENT.read_text() == as_text(document()), "run `make openapi`, and commit what it writes"


def test_no_change_since_the_last_release_breaks_clients():
    changes = Comparison(json.loads(RELEASED.read_text()), document()).changes()

    assert [str(change) for change in changes if change.breaks] == []
