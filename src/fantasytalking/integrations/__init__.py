"""Nodes for other people's tools."""
