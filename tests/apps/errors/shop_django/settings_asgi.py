"""The same project with coroutines among its views."""

from .settings import *  # noqa: F403

ROOT_URLCONF = "shop_django.urls_asgi"
