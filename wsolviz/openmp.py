"""How long OpenMP's threads spin, settled before torch loads OpenMP.

GNU's OpenMP, which torch brings on Linux, lets a thread that has nothing left to do spin 300,000
times before it sleeps: milliseconds. On two cores it takes one of them from the panels, which start
right behind the forward pass. Sleeping at once (OMP_WAIT_POLICY=passive) costs the pass more than
the panels gain, since its parts follow one another within microseconds. A thousand turns bridge
those gaps and no more: `python -m benchmarks.panels` with GOMP_SPINCOUNT set shows all three.

Who imports torch before wsolviz, or has set one of the variables, keeps what they have.
"""

from __future__ import annotations

import os

SPIN_COUNT = 1000

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
