"""The observers: finished records become metrics. Nothing on the request path imports this room."""
