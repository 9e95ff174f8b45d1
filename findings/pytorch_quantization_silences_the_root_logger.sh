#!/usr/bin/env bash
# pytorch-quantization 2.1.3 with absl-py 2.5.1: to import it is to change the root logger of the process. It takes
# away every handler that writes to the standard error, puts absl's there, and sets the level to WARNING. A program that
# has set up its logging, and imports the library later (in a worker, in a function), reports nothing below a warning
# from then on, whatever level it had asked for; messages that do pass have absl's form.
#
# Seen: before the import INFO and a StreamHandler; after it WARNING and an ABSLHandler; the second message of the
# program at INFO is lost.
#
# Fails if that changes. Downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.11.0 pytorch-quantization==2.1.3 absl-py==2.5.1 numpy==2.2.6 "setuptools<81"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import logging


def root_logger():
    root = logging.getLogger()
    return logging.getLevelName(root.level), [type(handler).__name__ for handler in root.handlers]


with contextlib.redirect_stderr(io.StringIO()) as written:
    logging.basicConfig(level=logging.INFO)
    log = logging.getLogger("program")
    before = root_logger()
    log.info("first")
    import pytorch_quantization  # noqa: F401

    after = root_logger()
    log.info("second")
print(before, after, repr(written.getvalue()), sep="\n")
as_stated = (
    before == ("INFO", ["StreamHandler"])
    and after == ("WARNING", ["ABSLHandler"])
    and "first" in written.getvalue()
    and "second" not in written.getvalue()
)
raise SystemExit(0 if as_stated else "this has changed")
PYTHON
