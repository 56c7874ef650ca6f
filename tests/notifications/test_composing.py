"""What mails say and how: both parts in every language, headers that nobody can forge, nothing loaded from afar."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from uuid import uuid4

import pytest

from provider_registration.local.mails import CaughtMail
from provider_registration.notifications.composing import TEMPLATES, Composer, message_id_of
from provider_registration.notifications.models import Letter, Message

LINK = "https://supply.example/applications/pJ3nV8sK1xQ6wZ0rT5yL9uC2bM7dF4gH8aE1oI6kN3s"
NEW = {"text": "Obsthof Köln", "at": datetime(2026, 3, 14, 9, 26, tzinfo=UTC), "url": f"{LINK}/1"}
VALUES = {"link": LINK, "company_name": "Huerta del Sol S.L.", "reason": "No cold chain"}
WEBHOOK = {"host": "erp.example", "disabled_reason": "gone", "at": NEW["at"], "link": LINK}
DIGEST = {"newest": [NEW], "total": 1, "has_more": False, "pending": 3, "link": LINK}
KNOWN = {Message.DIGEST: DIGEST, Message.WEBHOOK: WEBHOOK}
IN_SPANISH = [message for message in Message if message not in KNOWN]  # to companies, not to staff
FORGED = "Huerta\r\nBcc: spy@evil.example\r\n\r\nBuy now\u2028\x00"


@pytest.fixture
def composer():
    return Composer("Supplier registration <supply@supply.example>")


@pytest.fixture
def compose(composer):
    """A mail as a mail program reads it."""

    def compose(message, language=None, to="ventas@huerta.example", **values):
        mail = composer.compose(Letter(message, to, language, KNOWN.get(message, VALUES) | values), uuid4())
        return CaughtMail(1, datetime.now(UTC), [to], message_from_bytes(mail.content, policy=policy.default))

    return compose


@pytest.mark.parametrize("message", IN_SPANISH)
def test_a_message_is_in_english_and_spanish(compose, message):
    files = {path.stem for path in (TEMPLATES / message).iterdir()}
    english, spanish = compose(message, "en"), compose(message, "es")

    assert {"en", "es"} <= files
    assert english.message["Subject"] != spanish.message["Subject"]
    assert english.part("plain") != spanish.part("plain")
    assert (english.message["Content-Language"], spanish.message["Content-Language"]) == ("en", "es")


@pytest.mark.parametrize(
    ("kept", "used"), [(None, "en"), ("es", "es"), ("es-MX", "es"), ("ES-419", "es"), ("fr", "en"), ("x-klingon", "en")]
)
def test_the_language_is_the_kept_one_or_a_shorter_tag_or_english(compose, kept, used):
    assert compose(Message.RECEIVED, kept).message["Content-Language"] == used


@pytest.mark.parametrize("message", Message)
def test_text_and_html_say_the_same(compose, message):
    mail = compose(message)
    html = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", mail.part("html"), flags=re.DOTALL)

    def words(text):
        return re.findall(r"\w+", re.sub(r"<[^>]*>|https?://\S+", " ", text))

    assert words(mail.part("plain")) == words(html)
    assert set(re.findall(r"https?://[^\s\"]+", mail.part("plain"))) == set(re.findall(r'href="([^"]+)"', html))


@pytest.mark.parametrize("message", Message)
def test_lines_of_text_are_short_but_links_are_whole(compose, message):
    lines = compose(message, company_name="Huerta " * 40, reason="Because " * 60).part("plain").splitlines()

    assert all(len(line) <= 78 for line in lines if "https://" not in line)
    assert any(line.strip() == LINK for line in lines)


@pytest.mark.parametrize("message", Message)
def test_nothing_is_loaded_from_afar(compose, message):
    html = compose(message).part("html")

    assert not re.search(r"<(img|link|script|iframe|object|video|audio)\b|@import|url\(|src=", html)


@pytest.mark.parametrize("message", Message)
def test_programs_do_not_reply(compose, message):
    headers = compose(message).message

    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["X-Auto-Response-Suppress"] == "All"


def test_without_links_no_mail_has_one(compose):
    for message in (Message.RECEIVED, Message.APPROVED, Message.REJECTED):
        mail = compose(message, link=None)
        assert "http" not in mail.part("plain")
        assert "href" not in mail.part("html")
        assert "link" not in mail.part("plain")


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_rejection_has_its_reason_as_a_quotation(compose, language):
    mail = compose(Message.REJECTED, language, reason="No cold chain.\nToo <b>far</b> away.")

    assert "> No cold chain.\n> Too <b>far</b> away." in mail.part("plain")
    assert "Too &lt;b&gt;far&lt;/b&gt; away." in mail.part("html")
    without = compose(Message.REJECTED, language, reason=None).part("plain")
    assert len(without.split("\n\n")) == len(mail.part("plain").split("\n\n")) - 2


@pytest.mark.parametrize("message", Message)
def test_a_name_cannot_add_a_header_or_a_line(compose, message):
    mail = compose(message, company_name=FORGED, newest=[NEW | {"text": FORGED}])

    assert "Bcc" not in mail.message
    assert mail.message.defects == []
    assert "\nBcc" not in mail.part("plain")
    assert not re.search(r"[\x00\u2028]", str(mail.message["Subject"]) + mail.part("plain"))


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "& Söhne <b>", "شركة النخيل", '"><img src=x>'])
def test_a_name_is_only_text(compose, name):
    mail = compose(Message.APPROVED, company_name=name)

    assert f"\u2068{name}\u2069" in " ".join(mail.part("plain").split())
    assert not re.search(r"<(script|img|b)\b", mail.part("html"))
    assert "<bdi>" in mail.part("html")


def test_nothing_that_a_stranger_wrote_is_sent_before_staff_have_seen_it(compose):
    for message in (Message.RECEIVED, Message.LINK):
        mail = compose(message, company_name="Win money at evil.example", reason="Win money")
        assert "Win money" not in str(mail.message["Subject"]) + mail.part("plain") + mail.part("html")


def test_a_digest_counts_what_it_does_not_list(compose):
    many = compose(Message.DIGEST, newest=[NEW, NEW], total=1234, pending=1)

    assert many.message["Subject"] == "1,234 new applications"
    assert "And 1,232 more." in many.part("plain")
    assert compose(Message.DIGEST).message["Subject"] == "New application: Obsthof Köln"


def test_a_digest_says_when_there_are_too_many_to_count(compose):
    most = compose(Message.DIGEST, newest=[NEW, NEW], total=10_000, has_more=True, pending=1)

    assert most.message["Subject"] == "Over 10,000 new applications"
    assert "And over 9,998 more." in most.part("plain")


def test_a_webhook_that_fails_differs_from_one_that_was_disabled(compose):
    mails = [compose(Message.WEBHOOK, disabled_reason=reason) for reason in (None, "failing", "gone")]

    assert len({mail.part("plain") for mail in mails}) == 3
    assert len({mail.message["Subject"] for mail in mails}) == 2
    assert all("erp.example" in mail.message["Subject"] and "09:26 UTC" in mail.part("plain") for mail in mails)
    assert "http" not in compose(Message.WEBHOOK, link=None).part("plain")


@pytest.mark.parametrize(
    ("to", "recipient", "needs_utf8"),
    [
        ("ventas@huerta.example", "ventas@huerta.example", False),
        ("ventas@bücher.example", "ventas@xn--bcher-kva.example", False),
        ("josé@bücher.example", "josé@xn--bcher-kva.example", True),
        ("o'brien+x@huerta.example", "o'brien+x@huerta.example", False),
    ],
)
def test_domains_are_sent_as_a_labels(composer, to, recipient, needs_utf8):
    mail = composer.compose(Letter(Message.RECEIVED, to, None, VALUES), uuid4())

    assert (mail.recipient, mail.needs_utf8) == (recipient, needs_utf8)
    assert mail.content.isascii() is not needs_utf8
    assert f"\r\nTo: {recipient}\r\n".encode() in mail.content


def test_an_impossible_domain_is_an_error_without_the_address(composer):
    with pytest.raises(ValueError, match="domain") as error:
        composer.compose(Letter(Message.RECEIVED, "ana@xn\u0338\u20dd..example", None, VALUES), uuid4())

    assert "ana" not in str(error.value)


def test_the_sender_may_have_a_name_in_any_script():
    mail = Composer('"Ñandú, Früchte" <supply@bücher.example>').compose(
        Letter(Message.RECEIVED, "ventas@huerta.example", None, VALUES), uuid4()
    )

    [sender] = message_from_bytes(mail.content, policy=policy.default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Ñandú, Früchte", "supply@xn--bcher-kva.example")
    assert mail.sender == "supply@xn--bcher-kva.example"


def test_the_message_id_is_that_of_the_delivery():
    at = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)

    assert message_id_of(7, at) == message_id_of(7, at)
    assert len({message_id_of(7, at), message_id_of(8, at), message_id_of(7, at.replace(microsecond=0))}) == 3
