"""A shop of Django: one that runs on 4.2 and later."""
