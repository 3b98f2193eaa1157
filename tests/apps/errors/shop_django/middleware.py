"""One that fails, and one that answers what fails."""

from django.http import JsonResponse
from stock.errors import AuditFailed, OutOfCredit


class Audit:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/middleware":
            raise AuditFailed("on purpose")
        return self.get_response(request)


class NoCredit:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        if isinstance(exception, OutOfCredit):
            return JsonResponse({"error": "no credit"}, status=500)
        return None
