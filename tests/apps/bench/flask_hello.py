"""A Flask application that says hello."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "hello\n"
