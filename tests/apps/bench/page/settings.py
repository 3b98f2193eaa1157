"""As `startproject` makes them, as far as one page needs it."""

SECRET_KEY = "only for measurements"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "bench.page.urls"
WSGI_APPLICATION = "bench.page.wsgi.application"
INSTALLED_APPS = ["bench.page"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
    }
]
# In the folder that Gunicorn runs in.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "page.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
