"""The nouns every room speaks: requests, errors, timelines. No I/O, no clock reads, no environment."""
