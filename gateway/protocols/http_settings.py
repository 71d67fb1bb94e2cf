"""Limits and timeouts of the HTTP doors. Precedents beside the values; units in the names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """`hot_path` off serves inferences through the ASGI app instead, with the same answers and limits.

    `max_connections` 0 means half of the process's file descriptor limit (Envoy's rule).
    """

    hot_path: bool = True
    max_body_bytes: int = 64 << 20  # Triton --http-max-input-size
    max_json_bytes: int = 8 << 20  # decoding 56 MiB of JSON stops the loop for 0.3 s
    max_header_bytes: int = 32 << 10  # nginx 4 x 8 KiB
    max_headers: int = 100
    max_url_bytes: int = 8 << 10
    max_connections: int = 0
    max_pipelined: int = 64
    header_timeout_s: int = 10  # nginx 60, CIS benchmark 10
    body_grace_s: int = 10
    body_min_bytes_per_s: int = 1024
    keep_alive_s: int = 75  # nginx
    write_timeout_s: int = 60
    backlog: int = 2048
