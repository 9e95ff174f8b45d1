"""What ``deploy/compose.yaml`` promises, as far as it can be told without Docker."""

import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.cluster

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "deploy" / "compose.yaml").read_text()


def test_the_server_has_the_versions_that_the_package_is_tested_with() -> None:
    image = yaml.safe_load(TEXT)["services"]["mlflow"]["build"]["dockerfile_inline"]
    pins = re.findall(r"([\w-]+)(?:\[\w+\])?(==[\w.]+)", image)
    assert {name for name, _ in pins} == {"mlflow", "psycopg", "boto3"}
    assert {f"{name}{version}" for name, version in pins} <= set(
        (PROJECT / "constraints.txt").read_text().split()
    )


def test_secrets_come_from_the_user() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY)\w*)([^}]*)\}", TEXT)
    assert {name for name, _ in secrets} == {"POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"}
    assert all(rest.startswith(":?") for _, rest in secrets)
