"""In place of the package of this name: Gunicorn then leaves its command line as it is."""

raise ImportError("this Gunicorn sets no title")
