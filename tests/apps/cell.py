"""What every interpreter and Gunicorn of the matrix runs: no framework, on any Python since 3.8."""

import raw
from numbered import numbered

app = numbered(raw.app)
