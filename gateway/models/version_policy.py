"""Which of the versions on disk are served: Triton's `version_policy`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.oip import model_config_pb2


def select_versions(policy: model_config_pb2.ModelVersionPolicy, present: Iterable[str]) -> tuple[str, ...]:
    """Return the served ones of `present` (decimal texts), lowest first. The default is the latest one.

    `specific` versions that are not on disk are left out: they are reported as missing by the caller.
    """
    ordered = sorted(set(present), key=int)
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return tuple(ordered)
    if choice == "specific":
        wanted = {str(version) for version in policy.specific.versions}
        return tuple(version for version in ordered if version in wanted)
    count = policy.latest.num_versions or 1
    return tuple(ordered[-count:])


def missing_versions(policy: model_config_pb2.ModelVersionPolicy, present: Iterable[str]) -> tuple[str, ...]:
    """Return the `specific` versions that are not in `present`, lowest first."""
    if policy.WhichOneof("policy_choice") != "specific":
        return ()
    here = set(present)
    return tuple(str(version) for version in sorted(set(policy.specific.versions)) if str(version) not in here)
