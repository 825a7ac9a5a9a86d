"""What can be learned: one file a method, found by itself."""

import importlib
import pkgutil

from training.methods.base import METHODS, Batch, Method, MethodOptions, Moment, Term, Terms, total

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Batch", "Method", "MethodOptions", "Moment", "Term", "Terms", "total"]
