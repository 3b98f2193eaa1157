"""Counts with prometheus_client in multiprocess mode.

/own answers what MultiProcessCollector prints for the folder as it would be after
mark_process_dead(pid) for each pid of the query, such as ?17,18.
"""

import os
import shutil
import tempfile

FOLDER = os.environ["PROMETHEUS_MULTIPROC_DIR"]
os.makedirs(FOLDER, exist_ok=True)

import prometheus_client as client  # noqa: E402
from prometheus_client import multiprocess  # noqa: E402

HITS = client.Counter("counted_hits", "Hits of all kinds.", ["path", "app"])
SECONDS = client.Histogram("counted_seconds", "Made-up durations.", buckets=[0.25, 1, 1e6])
BYTES = client.Summary("counted_bytes", "Made-up sizes.")
# The exporter's name; the observer has this family itself.
REQUESTS = client.Counter("gunicorn_worker_requests_total", "Requests.")
GAUGES = [
    client.Gauge(f"counted_{mode}", f"Made up, {mode}.", multiprocess_mode=mode)
    for mode in sorted(client.Gauge._MULTIPROC_MODES)
]


def own(dead):
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy")
        shutil.copytree(FOLDER, copy)
        for pid in filter(None, dead.split(",")):
            multiprocess.mark_process_dead(pid, copy)
        registry = client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, copy)
        return client.generate_latest(registry)


def hit(path):
    HITS.labels(path, "own").inc()
    # Sums of these are exact, in any order.
    number = os.getpid() % 64 / 4
    SECONDS.observe(number)
    BYTES.observe(number)
    REQUESTS.inc()
    for gauge in GAUGES:
        gauge.set(number)
    return str(os.getpid()).encode()


def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = own(environ["QUERY_STRING"]) if path == "/own" else hit(path)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
