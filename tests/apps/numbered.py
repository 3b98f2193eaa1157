"""Any path may come with a number before it, as /17/products: then each is another, and the tests
can tell every single request by its path."""


def numbered(inner):
    def wrapped(environ, start_response):
        first, slash, rest = environ["PATH_INFO"][1:].partition("/")
        if slash and first.isdigit():
            environ["PATH_INFO"] = "/" + rest
        return inner(environ, start_response)

    return wrapped
