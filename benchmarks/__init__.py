"""One script a figure."""

import wsolviz  # noqa: F401  (before torch, so that all sides run as the app does)
