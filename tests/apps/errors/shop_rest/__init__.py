"""A shop of Django REST Framework."""
