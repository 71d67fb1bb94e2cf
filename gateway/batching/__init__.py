"""Requests that wait together execute together: a pure decision, pure merging, and the stage that does it."""
