"""The model repository on disk, what its configuration means, and the life of each loaded version."""
