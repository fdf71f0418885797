"""spawners/catalogue.py and refusals.py: where profiles come from, and what reaches page and log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from daas_hub.core.errors import ConfigError, DirectoryUnavailable, Exceeded, InvalidOptions, QuotaExceeded
from daas_hub.spawners import catalogue
from daas_hub.spawners.catalogue import Catalogue
from daas_hub.spawners.refusals import MAX_LOGGED, ShortLog, ShowForm, refusal

BASIC = {"display_name": "Basic"}


async def test_a_list_is_read_once_and_again_when_it_changes() -> None:
    kept = Catalogue(["local"])
    raw: list[dict[str, Any]] = [dict(BASIC)]
    first = await kept.load(raw, None)
    assert await kept.load([dict(BASIC)], None) is first
    raw[0]["slug"] = "b"
    assert [p.slug for p in await kept.load(raw, None)] == ["b"], "the same list, changed"


async def test_functions_get_the_spawner_and_may_be_async() -> None:
    async def later(spawner: str) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        return [{"display_name": spawner}]

    for function in (later, lambda spawner: [{"display_name": spawner}]):
        assert (await Catalogue([]).load(function, "Ann"))[0].slug == "ann"


@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        ([{"display_name": "X", "backend": "cloud"}], "ConfigError: DaasSpawner.profile_list, profile 'X': backend is"),
        (None, "ConfigError: DaasSpawner.profile_list: a list with at least one profile is needed"),
        (KeyError("site"), "KeyError: 'site'"),
        ("forever", "TimeoutError"),
    ],
)
async def test_a_failing_function_tells_person_and_operator(
    answer: Any, logged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "LOAD_WITHIN_S", 0.01)

    async def profiles(_spawner: object) -> Any:
        if answer == "forever":
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ConfigError, match=r"cannot be read just now\. Tell an administrator") as caught:
        await Catalogue(["local"]).load(profiles, None)
    assert logged in caught.value.log_message


def test_a_refusal_is_a_sentence_on_the_page() -> None:
    shown = refusal(InvalidOptions("<b>", field="x"))
    assert (shown.status_code, shown.jupyterhub_message, shown.message_html) == (400, "<b>", "&lt;b&gt;")
    quota = QuotaExceeded("Too much.", exceeded=Exceeded("cores", "user", "", 1, 1, 1), fits=("Basic",))
    assert refusal(quota).jupyterhub_message == "Too much. This would fit now: Basic."
    assert refusal(DirectoryUnavailable("Later.", retry_after_s=2.4)).headers == {"Retry-After": "2"}
    assert ShowForm().jupyterhub_message == "", "no error above the form"


def logged(error: Exception | None, message: str, *args: object) -> logging.LogRecord:
    record = logging.LogRecord(
        "x", logging.ERROR, "x.py", 1, message, args, (type(error), error, None) if error else None
    )
    assert ShortLog().filter(record)
    return record


def test_refusals_are_one_line_and_faults_keep_their_traceback() -> None:
    record = logged(refusal(InvalidOptions("x: no", field="x")), "Failed to spawn %s", "ann")
    assert record.exc_info is None
    assert record.getMessage() == "Failed to spawn ann: 400 SpawnException(reason=options): x: no"
    assert logged(ShowForm(), "Failed").levelno == logging.INFO
    assert logged(ValueError("bug"), "Failed").exc_info is not None
    assert logged(None, "100%% of %s", "it").getMessage() == "100% of it"
    assert logged(None, "%d", "wrong").args == ("wrong",), "left for logging to complain about"


def test_what_users_send_does_not_fill_the_log() -> None:
    text = logged(None, "Setting user_options on ann/ " + "%" * 5_000_000).getMessage()
    assert len(text) < MAX_LOGGED + 50
    assert text.endswith("(5000029 characters)")
