"""Provider Registration Service: supplier companies register, staff review, approval creates one provider."""

import os
from importlib.metadata import version

__version__ = version("provider-registration")
__commit__ = os.environ.get("SOURCE_COMMIT") or "unknown"  # set when the image is built
