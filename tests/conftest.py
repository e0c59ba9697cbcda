"""Settings of every test run: one thread per process, software rendering, Hypothesis profiles."""

from __future__ import annotations

import ctypes.util
import os

from hypothesis import HealthCheck, settings

# Two processes with two OpenMP threads each on two cores spin at barriers; set before torch or numpy load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "osmesa" if ctypes.util.find_library("OSMesa") else "egl")

_quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=_quiet)
settings.register_profile("thorough", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=_quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
