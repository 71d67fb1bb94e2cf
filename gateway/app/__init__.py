"""Composition root: builds, starts, drains and stops everything. Alone knows all rooms."""

from gateway.app.process import run
from gateway.app.worker import Worker

__all__ = ["Worker", "run"]
