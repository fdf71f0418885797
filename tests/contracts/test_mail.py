"""Mail against a real SMTP server: what arrives, what is refused, and that nothing waits for it or fails by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daas_hub.clients.mail import MAX_WAITING, Letters, Mail, MailSettings
from daas_hub.core import letters
from daas_hub.core.errors import ConfigError
from daas_hub.core.letters import Letter
from tests.servers.mailbox import Mailbox
from tests.servers.slapd import certificates
from tests.waiting import until

pytestmark = pytest.mark.needs("aiosmtpd")

ADA = Letter("ada@site.test", "Hello", "Grüezi, Ada.\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mail")
    certificates(root)
    return root


@pytest_asyncio.fixture
async def box() -> AsyncIterator[Mailbox]:
    made = await Mailbox().start()
    yield made
    await made.stop()


def mail(box: Mailbox, **more: object) -> Mail:
    settings = {"tls": "none", "sender": "hub@site.test", "within_s": 5.0, **more}
    return Mail(MailSettings("127.0.0.1", box.port, **settings))  # type: ignore[arg-type]


async def test_what_is_sent_arrives(box: Mailbox) -> None:
    await mail(box).send(ADA)
    ((recipients, message),) = box.got
    assert recipients == ["ada@site.test"]
    assert (message["From"], message["To"], message["Subject"]) == ("hub@site.test", "ada@site.test", "Hello")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == ["Grüezi, Ada."]


@pytest.mark.needs("slapd")
async def test_by_tls_with_a_certificate_that_is_proved(certificate: Path) -> None:
    box = await Mailbox(certificate).start()
    try:
        await mail(box, tls="starttls", ca_file=str(certificate / "ca.pem")).send(ADA)
        assert len(box.got) == 1
        # Of another CA, and without TLS: nothing is said to that server.
        for refused in ({"tls": "starttls"}, {"tls": "none"}):
            with pytest.raises(Exception, match=r"(?i)certificate|STARTTLS"):
                await mail(box, **refused).send(ADA)
        assert box.asked == ["ada@site.test"]
    finally:
        await box.stop()


async def test_without_starttls_at_the_server_nothing_is_sent(box: Mailbox) -> None:
    with pytest.raises(Exception, match="STARTTLS"):
        await mail(box, tls="starttls").send(ADA)
    assert box.asked == []


async def test_a_refused_mail_is_logged_and_the_next_one_sent(box: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    box.refused = {"ada@site.test"}
    queue = Letters(mail(box), logging.getLogger("mail"))
    for to in ("ada@site.test", "bob@site.test"):
        queue.post(lambda to=to: _letter(Letter(to, "Hello", "x\n")))  # type: ignore[misc]
    await queue.sent()
    assert len(box.to("bob@site.test")) == 1
    assert "A mail to ada@site.test is not sent" in caplog.text
    assert "no such mailbox" in caplog.text


async def test_a_directory_that_is_away_costs_one_mail(box: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    async def away() -> Letter:
        raise OSError("no directory")

    queue = Letters(mail(box), logging.getLogger("mail"))
    queue.post(away)
    queue.post(lambda: _letter(ADA))
    await queue.sent()
    assert len(box.got) == 1
    assert "A mail to somebody is not sent: OSError('no directory')" in caplog.text


async def test_a_silent_server_holds_nobody_and_fills_a_bounded_queue(
    box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    box.silent = True
    queue = Letters(mail(box, within_s=0.5), logging.getLogger("mail"))
    for _ in range(MAX_WAITING + 3):
        # Returns at once; that nothing waited is seen by what was asked of the server: nothing yet.
        queue.post(lambda: _letter(ADA))
    assert box.asked == []
    assert caplog.text.count(f"A mail is not sent: {MAX_WAITING} wait already") == 3
    await until(lambda: "A mail to ada@site.test is not sent: TimeoutError" in caplog.text, what="a mail given up")
    assert queue._task is not None
    queue._task.cancel()
    await asyncio.wait([queue._task])


@pytest.mark.parametrize(
    "to",
    [
        "ada@site.test\r\nBcc: eve@evil.test",
        "ada@site.test\n",
        "ada@site.test, eve@evil.test",
        "Ada <ada@site.test>",
        "ada@site.test\0",
        "ada@sité.test",
        "ada",
        "",
        "a" * 250 + "@site.test",
    ],
)
async def test_an_address_is_one_address_or_none(box: Mailbox, to: str) -> None:
    assert letters.address(to) == ""
    with pytest.raises(ValueError, match="plain mail address"):
        await mail(box).send(Letter(to, "Hello", "x\n"))
    assert box.asked == []


@pytest.mark.parametrize(
    "name", ["Eve\r\nBcc: eve@evil.test\r\n\r\nHello", "Eve\u2028Subject: x", "Eve\x85\x00.\r\n.\r\n"]
)
async def test_names_begin_no_header_and_no_line(box: Mailbox, name: str) -> None:
    for letter in (
        letters.link_made("ada@site.test", name, name),
        letters.link_ended("ada@site.test", name, name),
        letters.decided("ada@site.test", accepted=False, why=name),
    ):
        await mail(box).send(letter)
    for recipients, message in box.got:
        assert recipients == ["ada@site.test"]
        assert message["Bcc"] is None
        assert len(message.get_all("Subject")) == 1
        assert "Eve" not in message["Subject"]
        lines = [line for line in message.get_content().splitlines() if "Eve" in line or "evil" in line]
        assert all(line.startswith(("  ", "The administrator says: Eve")) for line in lines)
    assert len(box.got) == 3


@pytest.mark.parametrize(
    "wrong", [{"sender": ""}, {"sender": "hub@site.test\nBcc: x@y"}, {"user": "hub", "password": "x", "tls": "none"}]
)
async def test_what_cannot_work_is_said_at_the_start(box: Mailbox, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="mail_"):
        mail(box, **wrong)


async def _letter(letter: Letter) -> Letter:
    return letter
