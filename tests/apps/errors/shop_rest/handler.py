"""What the API answers where a view raises."""

from rest_framework.response import Response
from rest_framework.views import exception_handler
from stock.errors import OutOfCredit


def no_credit(error, context):
    if isinstance(error, OutOfCredit):
        return Response({"error": "no credit"}, status=500)
    return exception_handler(error, context)
