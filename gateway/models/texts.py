"""Foreign text made fit for a message. Names and file contents are untrusted: they reach logs, JSON and terminals."""

from __future__ import annotations


def plain(text: str, limit: int = 300) -> str:
    """Return one printable line of at most `limit` characters; where it is longer its middle is left out."""
    line = "".join(char if char.isprintable() else "?" for char in text)
    if len(line) <= limit:
        return line
    head = limit // 4
    return f"{line[:head]} ... {line[-(limit - head - 5) :]}"
