"""Passwords and tokens are shown to nobody, whatever they are part of."""

import logging

import pytest

from speakerquant.credentials import hide_credentials, hide_credentials_in_logs, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tracking.uri=http://someone:secret@host:5000", "tracking.uri=http://someone:***@host:5000"),
        ("uri: postgresql+psycopg://u:secr@et@host/db", "uri: postgresql+psycopg://u:***@host/db"),
        ("clone https://secret@host/x", "clone https://***@host/x"),
        ("http://host/x?access_token=secret&page=2", "http://host/x?access_token=***&page=2"),
        ("hydra.job.env_set.MY_PASSWORD=secret x=1", "hydra.job.env_set.MY_PASSWORD=*** x=1"),
        ("MLFLOW_TRACKING_TOKEN: secret\nseed: 1", "MLFLOW_TRACKING_TOKEN: ***\nseed: 1"),
        ("{'api_key': 'secret', 'seed': 1}", "{'api_key': ***, 'seed': 1}"),
        ("clone HTTPS://value@host/x", "clone HTTPS://***@host/x"),
        ("passwd=value;apikey=value;user=me", "passwd=***;apikey=***;user=me"),
        ("client_secret=value credential: value", "client_secret=*** credential: ***"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://tester@127.0.0.1/db",
        "sqlite:///mlruns/mlflow.db",
        "http://127.0.0.1:5000/a@b",
        "password: null",
        "mask.se_res2block1=int8 of 10:20",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide_credentials(text) == text


@pytest.mark.parametrize("part", ["a.b-c_", "token"])
def test_a_long_word_is_looked_through_once(part: str) -> None:
    word = part * 20_000  # from each of whose letters or names another minute would begin
    assert hide_credentials(f"{word} x_token={word}") == f"{word} x_token=***"


def test_logs_hide_them_in_arguments_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    factory = logging.getLogRecordFactory()
    try:
        hide_credentials_in_logs()
        hiding = logging.getLogRecordFactory()
        hide_credentials_in_logs()
        assert logging.getLogRecordFactory() is hiding, "once is enough"
        try:
            raise OSError("http://u:secret@host is down")
        except OSError:
            logging.getLogger("another").exception("cannot reach %s", "http://u:secret@host")
    finally:
        logging.setLogRecordFactory(factory)
    assert "cannot reach http://u:***@host" in caplog.text
    assert "OSError: http://u:***@host is down" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://someone:secret@host:5000/path", "http://host:5000/path"),
        ("postgresql+psycopg://u:secr@et@host/db", "postgresql+psycopg://host/db"),
        ("sqlite:///folder/a@b.db", "sqlite:///folder/a@b.db"),
    ],
)
def test_an_address_can_be_kept_without_user_and_password(address: str, shown: str) -> None:
    assert without_credentials(address) == shown
