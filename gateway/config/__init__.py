"""Compose the rooms' settings, and be the only reader of the configuration file and the environment.

Precedence: flag > `GATEWAY_*` environment (`__` nests) > `gateway.toml` > default. Unknown keys are errors.
"""

from __future__ import annotations

from gateway.config.decode import ConfigError
from gateway.config.document import document, example
from gateway.config.settings import Settings
from gateway.config.sources import Loaded, load, variable

__all__ = ["ConfigError", "Loaded", "Settings", "document", "example", "load", "variable"]
