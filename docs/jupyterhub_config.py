"""A JupyterHub for the course and its board.

docs/workshop-jupyterhub.md explains it; tests/workshop/test_jupyterhub.py runs it.

Four settings come from the environment, so that this file holds no secret:

    MI_HUB_URL               where learners reach the Hub, such as https://hub.example.org
    MI_COURSE_WORKSHOP_CODE  the board's join code, 8 to 40 letters and digits; learners can read it
    MI_COURSE_CACHE          the folder of fetched models, shared by all; learners need to read it only
    MI_HUB_LEADS             the users who lead, separated by commas
"""

import os
import sys

c = get_config()  # noqa: F821  # JupyterHub defines it

URL = os.environ["MI_HUB_URL"].rstrip("/")
CODE = os.environ["MI_COURSE_WORKSHOP_CODE"]
CACHE = os.environ["MI_COURSE_CACHE"]
LEADS = [name for name in os.environ.get("MI_HUB_LEADS", "").split(",") if name]

# Who may log in. JupyterHub lets nobody in unless one of these is set.
c.Authenticator.allowed_users = set()  # or: c.Authenticator.allow_all = True
c.Authenticator.admin_users = set()

# The course: each user gets a copy of the notebooks, which is never overwritten, and a progress file of their own.
c.Spawner.cmd = [
    "sh",
    "-c",
    f'"{sys.executable}" -m mi_course lab --no-start --dir "$HOME/mi-course" >/dev/null; '
    'exec jupyterhub-singleuser "$@"',
    "jupyterhub-singleuser",
]
c.Spawner.default_url = "/lab/tree/mi-course/00_start_here.ipynb"
c.Spawner.environment = {
    "MI_COURSE_CACHE": CACHE,
    # Learners are told once, before their first event, that the board hears of their verdicts. Without these two lines
    # nothing is reported.
    "MI_COURSE_WORKSHOP": f"{CODE}@{URL}/services/board",
    "MI_COURSE_WORKSHOP_NAME": lambda spawner: spawner.user.name,  # without it, everyone gets a pseudonym
}
c.Spawner.mem_limit = "2G"  # where the spawner enforces it: Docker, Kubernetes, systemd
c.Spawner.start_timeout = 120

# The board, as a service that the Hub starts and restarts. The Hub's login says who may open it.
c.JupyterHub.services = [
    {
        "name": "board",
        "url": "http://127.0.0.1:10101",
        "oauth_no_confirm": True,
        "command": [
            *(sys.executable, "-m", "mi_course", "workshop", "serve", "--hub"),
            *("--address", f"{URL}/services/board"),
        ],
        "environment": {
            name: os.environ[name] for name in ("MI_COURSE_WORKSHOP_CODE", "MI_COURSE_HOME") if name in os.environ
        },
    }
]
c.JupyterHub.load_roles = [
    {"name": "leads", "scopes": ["access:services!service=board"], "users": LEADS},
]
