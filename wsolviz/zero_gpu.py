"""Hugging Face's ZeroGPU: a GPU is lent to a function while it runs, if its decorator says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from wsolviz.progress import Progress, ignore_progress

Function = TypeVar("Function", bound=Callable[..., object])

# What one request may take at most; Score-CAM of one backbone is the longest.
GPU_SECONDS = 120

try:
    import spaces
except ImportError:
    spaces = None


def on_gpu(function: Function) -> Function:
    """Ask for a GPU while `function` runs; on any other machine the function is left as it is.

    The function must stand at a module's top level, since ZeroGPU pickles it.
    """
    return function if spaces is None else spaces.GPU(duration=GPU_SECONDS)(function)


def can_stop() -> bool:
    """Whether work inside `on_gpu` hears of a stop: on ZeroGPU it runs in another process."""
    return spaces is None


def passable(progress: Progress) -> Progress:
    """A progress function that can go where `on_gpu` runs: on ZeroGPU another process."""
    return progress if spaces is None else ignore_progress
