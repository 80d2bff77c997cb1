"""The one place where the version stands: read by the build, printed by ``--version`` without metadata look-ups."""

__all__ = ["__version__"]

__version__ = "0.1.0"
