"""Runs uv with what pip is configured to do: ``python tools/uv_like_pip.py pip install ...``.

uv reads neither ``pip.conf`` nor ``PIP_...``. Whoever has an index, a proxy or a certificate of their own has
told pip of it there, and is not asked to tell uv again. uv's own variables, where they are set, stand.
"""

import ast
import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pip._internal.models.index import PyPI

# pip's settings, and where each goes; uv splits lists at what is named last.
PASSED_ON = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", ""),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "keyring-provider": ("UV_KEYRING_PROVIDER", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
    "retries": ("UV_HTTP_RETRIES", ""),
    "proxy": ("ALL_PROXY", ""),
    "cert": ("SSL_CERT_FILE", ""),
    "client-cert": ("SSL_CLIENT_CERT", ""),
}
SECTIONS = ("global", "install", ":env:")  # the later counts, as in pip


def environment_for_uv(lines: Iterable[str]) -> Mapping[str, str]:
    """Returns the environment that makes uv do what the lines of ``pip config list`` say."""
    settings = [line.split("=", 1) for line in lines if "=" in line]
    # pip takes the best version of all its indexes; uv would take the first index that has the package.
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    if ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().capath:
        environment["UV_SYSTEM_CERTS"] = "1"  # pip knows those that a company adds to the machine's
    for wanted in SECTIONS:
        for key, value in settings:
            section, _, name = key.rpartition(".")
            if section == wanted and name in PASSED_ON:
                variable, separator = PASSED_ON[name]
                values = ast.literal_eval(value).split()
                if name == "find-links":  # pip goes past a folder that is not there
                    values = [place for place in values if "://" in place or Path(place).exists()]
                environment[variable] = separator.join(values)
    if "UV_INDEX" in environment:
        # Of equal versions pip takes the file that fits the platform best, uv that of the first index (the
        # default one is the last): further indexes may lack the best file.
        first = environment.get("UV_DEFAULT_INDEX", PyPI.simple_url)
        environment["UV_INDEX"] = f"{first} {environment['UV_INDEX']}"
    return environment


def main(arguments: list[str]) -> None:
    """Replaces this process by uv, which works on the environment of this interpreter unless told another."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, check=True, capture_output=True, text=True).stdout
    environment = {**environment_for_uv(listed.splitlines()), **os.environ, "VIRTUAL_ENV": sys.prefix}
    os.execve(Path(sys.prefix, "bin", "uv"), ["uv", *arguments], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
