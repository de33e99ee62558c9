"""The REST API, a FastAPI application."""
