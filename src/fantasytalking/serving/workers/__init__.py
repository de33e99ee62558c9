"""Processes that claim jobs from the database and generate their videos, and who starts them."""
