from django.urls import path

from . import urls, views_async

urlpatterns = [
    path("stream", views_async.stream),
    path("stream-fails", views_async.stream_fails),
    path("stream-breaks", views_async.stream_breaks),
    path("long-stream", views_async.long_stream),
    path("waits", views_async.waits),
    path("gathers", views_async.gathers),
    *urls.urlpatterns,
]
