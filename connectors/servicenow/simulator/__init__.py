"""Stands for ServiceNow: an HTTP server that answers as the product's Table API does, traps included.

Imports nothing of this project, so that it is a witness of its own: what the connector believes about the product is
tested against it, never shared with it. ``python -m connectors.servicenow.simulator`` runs it alone.
"""

from connectors.servicenow.simulator.server import Simulator, serve

__all__ = ["Simulator", "serve"]
