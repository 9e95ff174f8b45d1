#!/usr/bin/env bash
# SpeechBrain 1.1.2: importing its ECAPA-TDNN leaves seven lazy modules in sys.modules that import what they stand for
# at the first look at any attribute, hasattr and getattr with a default included, and raise ImportError where an
# optional package (k2, flair, spaCy, numba, transformers) is not installed. So what looks at all modules ends there, in
# code that has nothing to do with SpeechBrain: unittest's assertWarns of Python itself, and Hypothesis, whose tests
# failed here in whichever order put them behind one that had imported SpeechBrain.
#
# Seen: 7 lazy modules, 6 raise ImportError at getattr(module, "__file__", None); assertWarns raises ImportError; without
# these seven in sys.modules it works.
#
# Fails if that changes. Downloads PyTorch, which is large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    speechbrain==1.1.2 torch==2.11.0 torchaudio==2.11.0 soundfile==0.14.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import unittest
import warnings

import speechbrain
import speechbrain.lobes.models.ECAPA_TDNN
from speechbrain.utils.importutils import LazyModule


def assert_warns() -> str:
    try:
        with unittest.TestCase().assertWarns(UserWarning):
            warnings.warn("a warning", UserWarning)
    except ImportError as error:
        return f"ImportError: {error}"
    return "no error"


lazy = [name for name, module in sorted(sys.modules.items()) if isinstance(module, LazyModule)]
raising = []
for name in lazy:
    try:
        getattr(sys.modules[name], "__file__", None)
    except ImportError:
        raising.append(name)
with_them = assert_warns()
for name in lazy:
    del sys.modules[name]
without = assert_warns()
print(f"SpeechBrain {speechbrain.__version__}: {len(lazy)} lazy modules, {len(raising)} raise: {', '.join(raising)}")
print(f"assertWarns with them: {with_them}")
print(f"assertWarns without: {without}")
sys.exit(not (len(lazy) == 7 and len(raising) == 6 and with_them.startswith("ImportError") and without == "no error"))
PYTHON
