"""Hold the current route table and pick the version that serves a request. Picking is pure and reads one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.types import ServableVersion


class Route(msgspec.Struct, frozen=True, eq=False):
    """The answer of a pick: what serves, in which role, and the words that explain it."""

    servable: ServableVersion
    role: str
    reason: str


class ModelRoutes(msgspec.Struct, frozen=True, eq=False):
    """Routes of one model. `default` is None where the model is known but no version is READY.

    `states` says for versions that are known and not READY which state they are in.
    """

    default: Route | None
    pinned: Mapping[str, Route]
    states: Mapping[str, str] = MappingProxyType({})


class RouteTable:
    """Immutable: which versions serve each model. Built off the path, swapped as one reference."""

    __slots__ = ("_models",)

    def __init__(self, models: Mapping[str, ModelRoutes]) -> None:
        self._models = dict(models)

    @classmethod
    def of(cls, ready: Iterable[ServableVersion], known: Mapping[str, Mapping[str, str]]) -> RouteTable:
        """Build the table: traffic without a version goes to the highest READY one (Triton's rule).

        `known` maps each model name to its versions' states; a model may be known without a READY version.
        """
        by_model: dict[str, dict[str, ServableVersion]] = {name: {} for name in known}
        for servable in ready:
            by_model.setdefault(servable.model, {})[servable.version] = servable
        return cls({name: _routes(versions, known.get(name, {})) for name, versions in by_model.items()})

    def knows(self, model: str) -> bool:
        """Tell whether the name exists, served or not."""
        return model in self._models

    def serves(self, model: str) -> bool:
        """Tell whether a request for `model` that names no version would be served."""
        routes = self._models.get(model)
        return routes is not None and routes.default is not None

    def pick(self, model: str, version: str) -> Route:
        """Choose what serves `model`; `version` "" leaves the choice to the table.

        Raises NOT_FOUND for unknown names and versions, NOT_READY for known ones that do not serve now,
        INVALID_ARGUMENT for a version that is no number.
        """
        routes = self._models.get(model)
        if routes is None:
            raise GatewayError(Code.NOT_FOUND, f"Request for unknown model: '{model[:128]}' is not found")
        route = routes.pinned.get(version) if version else routes.default
        if route is None:
            raise _why_not(model, version, routes)
        return route


def _routes(versions: Mapping[str, ServableVersion], states: Mapping[str, str]) -> ModelRoutes:
    pinned = {v: Route(s, "pinned", "rule=pinned; role=pinned") for v, s in versions.items()}
    default = None
    if versions:
        highest = max(versions, key=int)
        default = Route(versions[highest], "stable", "rule=latest; role=stable")
    return ModelRoutes(default, pinned, MappingProxyType(dict(states)))


def _why_not(model: str, version: str, routes: ModelRoutes) -> GatewayError:
    prefix = "Request for unknown model: "
    if not version:
        if not routes.states:
            return GatewayError(Code.NOT_FOUND, f"{prefix}'{model}' has no available versions")
        return GatewayError(Code.NOT_READY, f"{prefix}'{model}' has no version at ready state", retry_after_s=1)
    if not (version.isascii() and version.isdigit() and version[0] != "0"):
        return invalid(
            f"failed to get model version from specified version string {version[:64]!r}: "
            "version should be an integral value > 0"
        )
    version = version[:64]
    if version in routes.states:
        message = f"{prefix}'{model}' version {version} is not at ready state"
        return GatewayError(Code.NOT_READY, message, retry_after_s=1)
    return GatewayError(Code.NOT_FOUND, f"{prefix}'{model}' version {version} is not found")


class Router:
    """Holds the current table. The data plane reads it once per request and never sees half a change."""

    def __init__(self) -> None:
        self.table = RouteTable({})

    def replace(self, table: RouteTable) -> None:
        """Swap in a new table; requests picked before keep what they have."""
        self.table = table
