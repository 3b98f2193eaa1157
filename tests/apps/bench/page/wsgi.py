"""Makes its database when it is loaded: it is for one worker."""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.page.settings")

application = get_wsgi_application()


def fill():
    from .models import Product

    call_command("migrate", run_syncdb=True, verbosity=0)
    Product.objects.bulk_create(Product(name=f"product {n}", price=n % 37) for n in range(100))


fill()
