"""Registration: what is accepted, how it is stored, and errors that do not repeat the input."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from provider_registration.db import orm
from provider_registration.web.text import LANGUAGE_TAG, MAX_TAG_LENGTH

CANDIDATES = "/candidates"
JSON = {"Content-Type": "application/json"}
LARGEST_INTEGER = 2**31 - 1


def faults(response):
    """The fields that an error response names."""
    assert response.status_code == 422, response.text
    return {error["field"] for error in response.json()["errors"]}


@pytest.fixture
def post(anonymous):
    """Send a raw body with the JSON content type."""

    async def post(body, **headers):
        return await anonymous.post(CANDIDATES, content=body, headers=JSON | headers)

    return post


@pytest.fixture
def try_registering(anonymous, registration):
    """Register with changes to a valid registration; `...` omits a field."""

    async def try_registering(**changes):
        body = {name: value for name, value in registration(**changes).items() if value is not ...}
        return await anonymous.post(CANDIDATES, json=body)

    return try_registering


@pytest.mark.asvs("V15.3.1")
async def test_the_whole_record_comes_back(anonymous, registration):
    sent = registration()

    response = await anonymous.post(CANDIDATES, json=sent)

    record = response.json()
    assert response.status_code == 201
    assert record == sent | {
        "candidate_id": record["candidate_id"],
        "status": "pending",
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
        "provider_id": None,
        "version": 1,
        "rejection_reason": None,
        "status_url": record["status_url"],
        "approval": None,
    }
    assert UUID(record["candidate_id"]).version in (4, 7)
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Location"] == f"/candidates/{record['candidate_id']}"


async def test_times_are_utc_and_say_so(register):
    record = await register()

    assert record["created_at"].endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(record["created_at"])
    assert -timedelta(seconds=5) < age < timedelta(seconds=30)


async def test_it_is_read_back_the_same(register, viewer):
    record = await register()

    response = await viewer.get(f"{CANDIDATES}/{record['candidate_id']}")

    assert response.json() == record


@pytest.mark.parametrize("field", ["phone", "location"])
@pytest.mark.parametrize("value", [..., None, "", "   ", "\u2003"])
async def test_an_optional_field_may_be_left_out_or_blank(try_registering, field, value):
    response = await try_registering(**{field: value})

    assert response.status_code == 201
    assert response.json()[field] is None


@pytest.mark.parametrize("field", ["company_name", "contact_email", "products", "truck_count", "capacity_tons_per_day"])
@pytest.mark.parametrize("value", [..., None])
async def test_every_other_field_is_needed(try_registering, field, value):
    assert faults(await try_registering(**{field: value})) == {field}


@pytest.mark.parametrize(("field", "length"), [("company_name", 255), ("phone", 50), ("location", 255)])
@pytest.mark.parametrize("letter", ["x", "é", "漢", "\U0001f34f"])
async def test_text_is_as_long_as_it_may_be_and_no_longer(try_registering, field, length, letter):
    unique = uuid4().hex[:20]
    longest = unique + letter * (length - len(unique))

    response = await try_registering(**{field: longest})

    assert response.status_code == 201
    assert response.json()[field] == longest
    assert faults(await try_registering(**{field: longest + letter})) == {field}


@pytest.mark.parametrize(("field", "length"), [("company_name", 255), ("location", 255)])
async def test_length_is_counted_in_the_composed_form(try_registering, field, length):
    decomposed = "e\u0301" * length  # two code points each, one in the composed form
    growing = "\ufb2c" * (length // 3 + 1)  # one code point each, three in the composed form

    response = await try_registering(**{field: decomposed})

    assert response.status_code == 201
    assert response.json()[field] == "é" * length
    assert len(unicodedata.normalize("NFC", growing)) > length
    assert faults(await try_registering(**{field: growing})) == {field}


@pytest.mark.parametrize("field", ["company_name", "phone", "location"])
async def test_space_around_text_is_not_kept_and_not_counted(try_registering, field):
    response = await try_registering(**{field: " \u00a0\u2003" + "7" * 50 + " " * 300})

    assert response.status_code == 201
    assert response.json()[field] == "7" * 50


async def test_a_phone_number_has_digits_and_nothing_invisible(try_registering):
    assert faults(await try_registering(phone="😀 call me")) == {"phone"}
    pasted = await try_registering(phone="\u202d+34 963 555 017\u202c")
    assert pasted.json()["phone"] == "+34 963 555 017"


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u2003\u00a0"])
async def test_a_company_has_a_name(try_registering, name):
    assert faults(await try_registering(company_name=name)) == {"company_name"}


@pytest.mark.parametrize(
    "name",
    [
        "O'Brien & Søns; DROP TABLE candidates;--",
        "<script>alert(1)</script>",
        '"quoted" \\ back\\slash',
        "株式会社りんご",
        "شركة البرتقال",
        "🍏🍇",
        "%s %d {} ${x} :name $1",
        "null",
    ],
)
async def test_a_name_is_kept_as_it_was_written(try_registering, name):
    response = await try_registering(company_name=name)

    assert response.status_code == 201
    assert response.json()["company_name"] == name


@pytest.mark.parametrize("field", ["company_name", "contact_email", "phone", "location"])
@pytest.mark.parametrize("character", ["\x00", "\x01", "\n", "\t", "\x1b", "\x7f", "\x85", "\x9f"])
async def test_control_characters_are_refused(try_registering, field, character):
    assert faults(await try_registering(**{field: f"ab{character}c@example.com"})) == {field}


@pytest.mark.parametrize("field", ["company_name", "contact_email", "phone", "location", "products"])
@pytest.mark.parametrize(
    "half", [rb"\ud800", rb"\udfff", rb"\udc00\ud800", b"\xed\xa0\x80", b"\xff", b"\xc3", b"\xc0\x80"]
)
async def test_lone_surrogates_are_refused(post, registration, field, half):
    body = json.dumps(registration(**{field: ["HALF"] if field == "products" else "HALF@example.com"}))

    response = await post(body.encode().replace(b"HALF", b"a" + half))

    assert response.status_code == 422


@pytest.mark.asvs("V1.4.2")
@pytest.mark.parametrize("field", ["truck_count", "capacity_tons_per_day"])
@pytest.mark.parametrize("number", [1, 2, LARGEST_INTEGER])
async def test_counts_go_from_1_to_the_largest_integer(try_registering, field, number):
    response = await try_registering(**{field: number})

    assert response.status_code == 201
    assert response.json()[field] == number


@pytest.mark.asvs("V15.3.5")
@pytest.mark.parametrize("field", ["truck_count", "capacity_tons_per_day"])
@pytest.mark.parametrize(
    "number",
    ["0", "-1", "2147483648", "9223372036854775808", "1" + "0" * 400, "-" + "9" * 5000, "true", "false", '"5"', "5.0"]
    + ["1.5", "1e3", "1e400", "NaN", "Infinity", "-Infinity", "[]", "{}", '""', "null"],
)
async def test_other_numbers_are_refused(post, registration, field, number):
    body = json.dumps(registration(**{field: "NUMBER"})).replace('"NUMBER"', number)

    response = await post(body.encode())

    assert response.status_code == 422
    assert faults(response) <= {field, None}


async def test_all_products_may_be_named_in_any_order(try_registering):
    products = ["mangoes", "apples", "bananas", "grapes", "oranges"]

    response = await try_registering(products=products)

    assert response.status_code == 201
    assert response.json()["products"] == products


@pytest.mark.parametrize(
    "products",
    [
        [],
        ["pears"],
        ["Apples"],
        [" apples"],
        [""],
        [None],
        [1],
        [["apples"]],
        "apples",
        {"apples": True},
        ["apples", "apples"],
        ["apples", "oranges", "grapes", "bananas", "mangoes", "apples"],
        ["apples"] * 5_000,
    ],
)
async def test_other_products_are_refused(try_registering, products):
    named = faults(await try_registering(products=products))

    assert {name.partition(".")[0] for name in named} == {"products"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Sales.{}@EXAMPLE.com", "Sales.{}@example.com"),
        ("  {}@example.com ", "{}@example.com"),
        ("{}+fruit@sub.example.co.uk", "{}+fruit@sub.example.co.uk"),
        ("jörg.{}@bücher.example", "jörg.{}@bücher.example"),
        ("{}@xn--bcher-kva.example", "{}@bücher.example"),
        ("o'brien.{}@example.com", "o'brien.{}@example.com"),
    ],
)
async def test_an_address_is_kept_with_its_domain_in_one_form(try_registering, sent, kept):
    unique = uuid4().hex

    response = await try_registering(contact_email=sent.format(unique))

    assert response.status_code == 201
    assert response.json()["contact_email"] == kept.format(unique)


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "plain",
        "@example.com",
        "a@",
        "a@b",
        "a b@example.com",
        "a@exa mple.com",
        "a@-example.com",
        "a@example..com",
        ".a@example.com",
        "a..b@example.com",
        "a@example.com, b@example.com",
        "A <a@example.com>",
        "a@[127.0.0.1]",
        "a@localhost",
        "a" * 65 + "@example.com",
        "a@" + "x" * 64 + ".com",
        "a@" + "x." * 130 + "com",
        "a@xn--999999999.com",
        "a" * 10_000 + "@example.com",
        5,
        ["a@example.com"],
    ],
)
async def test_what_is_no_address_is_refused(try_registering, address):
    assert faults(await try_registering(contact_email=address)) == {"contact_email"}


@pytest.mark.parametrize("write", [str, str.upper, str.title, " {} ".format])
async def test_an_address_registers_once_whatever_its_letter_case(register, try_registering, write):
    address = (await register())["contact_email"]

    response = await try_registering(contact_email=write(address))

    assert response.status_code == 409
    assert response.json()["type"].endswith(":email-taken")
    assert address.lower() not in response.text.lower()


async def test_the_same_domain_in_its_other_form_is_the_same_address(try_registering):
    unique = uuid4().hex

    first = await try_registering(contact_email=f"{unique}@bücher.example")
    second = await try_registering(contact_email=f"{unique}@xn--bcher-kva.example")

    assert (first.status_code, second.status_code) == (201, 409)


async def test_a_rejected_company_keeps_its_address(admin, register, try_registering):
    candidate = await register()
    await admin.post(f"{CANDIDATES}/{candidate['candidate_id']}/reject")

    response = await try_registering(contact_email=candidate["contact_email"])

    assert response.status_code == 409


async def test_two_companies_may_share_a_name(register):
    first = await register()

    second = await register(company_name=first["company_name"])

    assert second["candidate_id"] != first["candidate_id"]


async def test_of_concurrent_registrations_of_one_address_one_succeeds(try_registering, database):
    address = f"{uuid4().hex}@example.com"

    responses = await asyncio.gather(
        *(try_registering(contact_email=write(address)) for write in [str.lower, str.upper] * 15)
    )

    assert Counter(response.status_code for response in responses) == {201: 1, 409: 29}
    stored = await database.fetchval("SELECT count(*) FROM candidates WHERE lower(contact_email) = $1", address)
    assert stored == 1


async def test_concurrent_registrations_get_their_own_records(try_registering):
    addresses = [f"{uuid4().hex}@example.com" for _ in range(100)]

    responses = await asyncio.gather(*(try_registering(contact_email=address) for address in addresses))

    assert [response.json()["contact_email"] for response in responses] == addresses
    assert len({response.json()["candidate_id"] for response in responses}) == 100


async def test_many_companies_register_at_once(try_registering):
    responses = await asyncio.gather(*(try_registering() for _ in range(50)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["candidate_id"] for response in responses}) == 50


@pytest.mark.asvs("V8.1.2", "V8.2.3", "V15.3.3", "API3")
@pytest.mark.parametrize(
    "field", ["status", "provider_id", "version", "candidate_id", "id", "rejection_reason", "created_at", "x", ""]
)
async def test_fields_that_are_not_the_companys_to_set_are_refused(try_registering, field):
    assert faults(await try_registering(**{field: "approved"})) == {field or None}


@pytest.mark.asvs("V2.2.1")
async def test_everything_that_is_wrong_is_named_at_once(try_registering):
    response = await try_registering(company_name="", contact_email="x", products=[], truck_count=0, more=1)

    assert faults(response) == {"company_name", "contact_email", "products", "truck_count", "more"}
    assert all(error["location"] == "body" for error in response.json()["errors"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b'"text"',
        b"[]",
        b"[{}]",
        b"{",
        b"{}}",
        b"{'company_name': 'x'}",
        b'{"company_name": "x",}',
        b"\xef\xbb\xbf{}",
        b"{}\x00",
        '{"company_name": "x"}'.encode("utf-16"),
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"company_name": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"products": ' + b'{"x":' * 3_000 + b"1" + b"}" * 3_000 + b"}",
    ],
)
async def test_a_body_that_is_no_registration_is_refused(post, body):
    faults(await post(body))


@pytest.mark.asvs("V15.3.7")
@pytest.mark.parametrize("again", ['"phone": "1"', '"truck_count": 5', '"company_name": "Other"', '"ph\\u006fne": "1"'])
async def test_a_field_given_twice_is_refused(post, registration, again):
    body = json.dumps(registration())

    response = await post(f"{body[:-1]}, {again}}}".encode())

    assert faults(response) == set(json.loads(f"{{{again}}}"))


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonp",
        "json",
        "*/*",
        "application/json, text/plain",
    ],
)
async def test_a_body_that_is_not_announced_as_json_is_refused(anonymous, registration, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    response = await anonymous.post(CANDIDATES, content=json.dumps(registration()).encode(), headers=headers)

    assert response.status_code == 415


@pytest.mark.parametrize(
    "content_type",
    ["application/json;charset=UTF-8", "Application/JSON", "application/json; charset=latin-1", "application/x+json"],
)
async def test_json_may_be_announced_in_other_words(post, registration, content_type):
    response = await post(json.dumps(registration()).encode(), **{"Content-Type": content_type})

    assert response.status_code == 201


async def in_chunks(body, size=1000):
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.asvs("API4")
@pytest.mark.parametrize("send", [bytes, in_chunks], ids=["announced", "chunked"])
async def test_a_body_may_have_64_kibibytes_and_no_more(post, registration, send):
    body = json.dumps(registration()).encode()
    largest = body + b" " * (65_536 - len(body))

    assert (await post(send(largest + b" "))).status_code == 413
    assert (await post(send(largest))).status_code == 201


@pytest.mark.parametrize("send", [bytes, in_chunks], ids=["announced", "chunked"])
async def test_a_very_large_body_is_refused_before_it_is_read(post, send):
    response = await post(send(b"x" * 3_000_000))

    assert response.status_code == 413
    assert response.json()["type"].endswith(":body-too-large")


@pytest.mark.parametrize(
    "changes",
    [
        {"company_name": "MARKER" * 60},
        {"company_name": "MARKER\x01"},
        {"contact_email": "MARKER"},
        {"contact_email": "MARKER@MARKER"},
        {"phone": "MARKER" * 10},
        {"products": ["MARKER"]},
        {"products": "MARKER"},
        {"truck_count": "MARKER"},
        {"truck_count": {"MARKER": "MARKER"}},
        {"location": ["MARKER"]},
        {"unknown": "MARKER"},
        {"company_name": {"MARKER": 1}, "products": [{"MARKER": 1}], "phone": 7_777_777, "truck_count": -7_777_777},
    ],
)
async def test_a_refusal_repeats_nothing_of_what_was_sent(try_registering, changes):
    response = await try_registering(**changes)

    assert response.status_code == 422
    assert "marker" not in response.text.lower()
    assert "7777777" not in response.text
    assert all(set(error) == {"location", "field", "code", "detail"} for error in response.json()["errors"])


@pytest.mark.parametrize("body", [b"MARKER", b'{"MARKER', b'{"company_name": MARKER}'])
async def test_nor_of_what_is_no_json(post, body):
    response = await post(body)

    assert response.status_code == 422
    assert "marker" not in response.text.lower()


def test_the_table_takes_the_language_tags_that_registrations_have():
    [rule] = (each for each in orm.Candidate.__table__.constraints if each.name == "ck_candidates_language")

    assert str(rule.sqltext) == f"length(language) <= {MAX_TAG_LENGTH} AND language ~ '{LANGUAGE_TAG}'"
