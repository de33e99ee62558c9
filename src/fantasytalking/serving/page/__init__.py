"""The page: HTML, style sheets and ES modules that the server sends as they are; only a client of the REST API."""
