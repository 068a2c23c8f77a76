"""Files that are no notebooks, or hardly."""

from __future__ import annotations

import json

from grading_kit import notebook

MALFORMED = {
    "empty": b"",
    "truncated": json.dumps(notebook()).encode()[:5000],
    "not_utf8": b"\xff\xfe\x00{",
    "a_list": b"[]",
    "no_cells": b'{"metadata": {}}',
    "cells_of_nothing": b'{"cells": [1, null, {}, {"cell_type": 3, "source": {"a": 1}}], "metadata": 7}',
    "nested": b"[" * 100_000,
    "nested_objects": b'{"cells":' * 50_000,
    "huge_number": b'{"cells": ' + b"9" * 100_000 + b"}",
    "infinity": b'{"cells": [], "x": NaN, "y": Infinity}',
    "of_no_lesson": b'{"cells": [{"cell_type": "code", "source": "x = 1"}], "metadata": {}}',
    "binary": bytes(range(256)) * 10,
}
