"""The operators' side: an app of its own on a port of its own. Reads views of the models room; serves no inference."""
