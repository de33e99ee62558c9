"""Small bundled networks (sources and licences in NOTICE beside this file) and the class that runs them."""

from fantasytalking.perception.networks.network_runner import Network

__all__ = ["Network"]
