"""A page of Django: a query to SQLite, and a template."""
