"""The doors: wire formats in and out. Codecs are pure; doors own sockets and know the inference service only."""
