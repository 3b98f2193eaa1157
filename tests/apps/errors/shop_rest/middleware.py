"""Middleware that is a function."""

from stock.errors import AuditFailed


def audit(get_response):
    def audited(request):
        if request.path == "/middleware":
            raise AuditFailed("on purpose")
        return get_response(request)

    return audited
