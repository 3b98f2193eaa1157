"""Views that are classes, and one of a function."""

from django.http import StreamingHttpResponse
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import APIView
from stock import ledger, shelf, views
from stock.errors import LONG, QUOTED, LookupFailed, OutOfCredit, OutOfStock, Überlauf
from stock.price import Price


class ServiceUnavailable(APIException):
    status_code = 503


@api_view(["GET"])
def ok(request):
    return Response("ok")


@api_view(["GET"])
def products(request):
    raise ValueError("on purpose")


class Raises(APIView):
    def get(self, request):
        raise ValueError("on purpose")


class Deep(APIView):
    def get(self, request):
        return Response(shelf.order("tea"))


class RaisesFrom(APIView):
    def get(self, request):
        try:
            return {}["tea"]
        except KeyError as error:
            raise LookupFailed("tea") from error


class RaisesWhileHandling(APIView):
    def get(self, request):
        try:
            return {}["tea"]
        except KeyError:
            raise RuntimeError("while handling")


class RecoversThenRaises(APIView):
    def get(self, request):
        views.recover()
        raise ValueError("after all")


class Handled(APIView):
    def get(self, request):
        return Response(views.recover())


class Aborts(APIView):
    def get(self, request):
        raise NotFound()


class Unavailable(APIView):
    def get(self, request):
        raise ServiceUnavailable()


class Answers(APIView):
    def get(self, request):
        return Response("broken", status=500)


class Busy(APIView):
    def get(self, request):
        return Response("busy", status=503)


class Mapped(APIView):
    def get(self, request):
        raise OutOfCredit("no money")


class Swallowed(APIView):
    def get(self, request):
        try:
            return Response(shelf.order("tea"))
        except OutOfStock:
            return Response("sorry", status=500)


class Template(APIView):
    """Not the view fails but what turns its answer into JSON."""

    def get(self, request):
        return Response(label for label in [Price()] if label.label)


class StreamFails(APIView):
    def get(self, request):
        return StreamingHttpResponse(views.nothing())


class StreamBreaks(APIView):
    def get(self, request):
        return StreamingHttpResponse(views.some())


class Umlaut(APIView):
    def get(self, request):
        raise Überlauf("too much")


class LongName(APIView):
    def get(self, request):
        raise LONG("long")


class QuotedName(APIView):
    def get(self, request):
        raise QUOTED("quoted")


class MissingOnShelf(APIView):
    def get(self, request):
        return shelf.find("tea")


class MissingInLedger(APIView):
    def get(self, request):
        return ledger.find("tea")


class Exits(APIView):
    def get(self, request):
        raise SystemExit(3)


class GeneratorExits(APIView):
    def get(self, request):
        raise GeneratorExit("on purpose")


class MissingFile(APIView):
    def get(self, request):
        return Response(open("/nowhere/tea", "rb").read())


class LongStream(APIView):
    def get(self, request):
        return StreamingHttpResponse(views.plenty())
