"""The service management system: processes, roles, mapping, conditions, cases. Pure."""
