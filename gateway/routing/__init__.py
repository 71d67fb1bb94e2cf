"""Which version serves a request: one immutable table, read once per request, replaced as one reference."""
