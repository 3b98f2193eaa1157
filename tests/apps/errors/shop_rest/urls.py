from django.urls import path

from . import views

urlpatterns = [
    path("ok", views.ok),
    path("fence", views.ok),
    path("products", views.products),
    path("raises", views.Raises.as_view()),
    path("deep", views.Deep.as_view()),
    path("raises-from", views.RaisesFrom.as_view()),
    path("raises-while-handling", views.RaisesWhileHandling.as_view()),
    path("recovers-then-raises", views.RecoversThenRaises.as_view()),
    path("handled", views.Handled.as_view()),
    path("aborts", views.Aborts.as_view()),
    path("unavailable", views.Unavailable.as_view()),
    path("answers", views.Answers.as_view()),
    path("busy", views.Busy.as_view()),
    path("mapped", views.Mapped.as_view()),
    path("swallowed", views.Swallowed.as_view()),
    path("starts-capture", views.Answers.as_view()),
    path("template", views.Template.as_view()),
    path("stream-fails", views.StreamFails.as_view()),
    path("stream-breaks", views.StreamBreaks.as_view()),
    path("umlaut", views.Umlaut.as_view()),
    path("long-name", views.LongName.as_view()),
    path("quoted-name", views.QuotedName.as_view()),
    path("missing-on-shelf", views.MissingOnShelf.as_view()),
    path("missing-in-ledger", views.MissingInLedger.as_view()),
    path("exits", views.Exits.as_view()),
    path("generator-exits", views.GeneratorExits.as_view()),
    path("missing-file", views.MissingFile.as_view()),
    path("long-stream", views.LongStream.as_view()),
]
