"""Provider Registration Service: supplier companies register, staff review, approval creates one provider."""

from importlib.metadata import version

__version__ = version("provider-registration")
