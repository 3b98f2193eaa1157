"""Views that are functions, but for one."""

from functools import wraps

from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views import View
from stock import ledger, shelf, views
from stock.errors import LONG, QUOTED, LookupFailed, OutOfCredit, OutOfStock, Überlauf
from stock.price import Price


def ok(request):
    return HttpResponse("ok")


def raises(request):
    raise ValueError("on purpose")


class Products(View):
    def get(self, request):
        raise ValueError("on purpose")


def deep(request):
    return HttpResponse(shelf.order("tea"))


def raises_from(request):
    try:
        return {}["tea"]
    except KeyError as error:
        raise LookupFailed("tea") from error


def raises_while_handling(request):
    try:
        return {}["tea"]
    except KeyError:
        raise RuntimeError("while handling")


def recovers_then_raises(request):
    views.recover()
    raise ValueError("after all")


def handled(request):
    return HttpResponse(views.recover())


def aborts(request):
    raise Http404("on purpose")


def answers(request):
    return HttpResponse("broken", status=500)


def busy(request):
    return HttpResponse("busy", status=503)


def mapped(request):
    raise OutOfCredit("no money")


def as_json(view):
    @wraps(view)
    def answer(request):
        try:
            return view(request)
        except OutOfStock:
            return JsonResponse({"error": "out of stock"}, status=500)

    return answer


@as_json
def decorated(request):
    return HttpResponse(shelf.order("tea"))


def swallowed(request):
    try:
        return HttpResponse(shelf.order("tea"))
    except OutOfStock:
        return HttpResponse("sorry", status=500)


def template(request):
    return render(request, "price.html", {"price": Price()})


def template_missing(request):
    return render(request, "nowhere.html")


def stream_fails(request):
    return StreamingHttpResponse(views.nothing())


def stream_breaks(request):
    return StreamingHttpResponse(views.some())


def umlaut(request):
    raise Überlauf("too much")


def long_name(request):
    raise LONG("long")


def quoted_name(request):
    raise QUOTED("quoted")


def missing_on_shelf(request):
    return shelf.find("tea")


def missing_in_ledger(request):
    return ledger.find("tea")


def exits(request):
    raise SystemExit(3)


def generator_exits(request):
    raise GeneratorExit("on purpose")


def missing_file(request):
    return HttpResponse(open("/nowhere/tea", "rb").read())


def long_stream(request):
    return StreamingHttpResponse(views.plenty())
