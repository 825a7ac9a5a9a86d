"""The project's version, which manifests hold."""

__version__ = "0.1.0"
