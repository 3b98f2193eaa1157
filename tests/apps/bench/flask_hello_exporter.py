"""The same Flask application with prometheus_flask_exporter, as its README has it for Gunicorn."""

from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

from bench.flask_hello import app

metrics = GunicornInternalPrometheusMetrics(app)
