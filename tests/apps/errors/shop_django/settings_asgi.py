"""The same project on an event loop."""

from .settings import *  # noqa: F403

ROOT_URLCONF = "shop_django.urls_asgi"
MIDDLEWARE = [
    name.replace("shop_django.middleware.", "shop_django.middleware_async.")
    for name in MIDDLEWARE  # noqa: F405
]
