"""OpenMP itself says how long its threads spin once wsolviz is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from wsolviz.openmp import SPIN_COUNT

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_count(code: str, **given: str) -> int:
    """What OpenMP prints of itself when it is loaded."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **given}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    told = re.search(r"GOMP_SPINCOUNT = '(\d+)'", ran.stderr)
    if told is None:
        pytest.skip("this torch does not bring GNU's OpenMP")
    return int(told[1])


def test_threads_sleep_soon_after_the_forward_pass() -> None:
    assert spin_count("import wsolviz") == SPIN_COUNT
    assert spin_count("import torch") > SPIN_COUNT, "what wsolviz is there to change"


def test_what_was_set_stays() -> None:
    assert spin_count("import wsolviz", GOMP_SPINCOUNT="77") == 77
    assert spin_count("import wsolviz", OMP_WAIT_POLICY="passive") == 0
