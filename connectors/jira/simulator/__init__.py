"""Stands for Jira Cloud on a loopback port: REST v2 and v3, JQL with a lagging index, and pages that people can read.

Imports nothing of the program; what it answers is checked against the vendor's own interface document, so that it
can bear witness about the connector. From the wire inwards: ``server`` (HTTP and faults), ``application`` (routes,
accounts, limits), ``resources`` and ``search`` (what each address does), ``editing`` (screens and workflows),
``representation``, ``markup`` and ``pages`` (how things look), ``site`` (the state), ``configuration`` and ``seeding``
(what data files hold). Data Center would be a second ``resources`` over the same site.
"""

from connectors.jira.simulator.server import Simulator, serve

__all__ = ["Simulator", "serve"]
