"""The same as coroutines: Django calls other middleware, and all behind it, in threads."""

from asgiref.sync import markcoroutinefunction
from stock.errors import AuditFailed

from . import middleware


class Audit:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request):
        if request.path == "/middleware":
            raise AuditFailed("on purpose")
        return await self.get_response(request)


class NoCredit(middleware.NoCredit):
    sync_capable = False
    async_capable = True

    def __init__(self, get_response):
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request):
        return await self.get_response(request)
