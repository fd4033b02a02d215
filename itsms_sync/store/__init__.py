"""The store: schema, migrations and all SQL. Nothing outside this folder writes a statement; no SQLite-only type."""
