"""The version of the course. A module of its own, so that nothing imports the package itself to know it."""

__version__ = "0.1.0"
