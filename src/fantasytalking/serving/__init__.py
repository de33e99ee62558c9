"""A service: jobs that make videos, offered by REST and a page."""
