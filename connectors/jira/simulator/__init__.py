"""Stands for Jira on a loopback port: Cloud or Data Center, service management, JQL over a lagging index, and pages.

Imports nothing of the program; what it answers is checked against the vendor's own interface documents, so that it
can bear witness about the connector. From the wire inwards: ``server`` (HTTP and faults), ``application`` (the way of
a request), ``gates`` and ``limits`` (who may pass), ``routes`` (which addresses an edition has), ``resources`` with
``setup_resources`` and ``search_resources``, ``data_center``, ``service_management`` and ``workflows`` (what they do),
``search`` with ``jql`` and ``predicates`` (what is found), ``editing`` with ``values`` and ``changes`` (what may be
written and how it is told), ``representation``, ``markup`` and ``pages`` (how things look), ``service_levels``
(clocks), ``site`` (the state), ``configuration`` (the set-up), ``site_files`` and ``seeding`` (what data files hold),
``lively`` with ``scripts`` (people at work, if wanted).
Both editions are views of one and the same site.
"""

from connectors.jira.simulator.server import Simulator, serve

__all__ = ["Simulator", "serve"]
