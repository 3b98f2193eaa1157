from django.shortcuts import render

from .models import Product


def products(request):
    cheapest = Product.objects.order_by("price")[:10]
    return render(request, "products.html", {"products": cheapest})
