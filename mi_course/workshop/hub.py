"""The board as a service that JupyterHub manages: the Hub's own login says who leads."""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from mi_course.errors import CourseError

__all__ = ["Hub"]


@dataclass(frozen=True)
class Hub:
    """What JupyterHub tells a service in its environment."""

    name: str
    api: str
    base: str
    host: str
    prefix: str
    url: str
    client_id: str
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> Hub:
        """Raises CourseError where JupyterHub did not start this process."""
        try:
            return cls(
                name=os.environ["JUPYTERHUB_SERVICE_NAME"],
                api=os.environ["JUPYTERHUB_API_URL"],
                base=os.environ.get("JUPYTERHUB_BASE_URL", "/"),
                host=os.environ.get("JUPYTERHUB_HOST", ""),
                prefix=os.environ["JUPYTERHUB_SERVICE_PREFIX"],
                url=os.environ["JUPYTERHUB_SERVICE_URL"],
                client_id=os.environ.get("JUPYTERHUB_CLIENT_ID", f"service-{os.environ['JUPYTERHUB_SERVICE_NAME']}"),
                token=os.environ["JUPYTERHUB_API_TOKEN"],
            )
        except KeyError as error:
            raise CourseError(
                f"{error.args[0]} is not set. JupyterHub sets it when it starts the board as a service; "
                "docs/workshop-jupyterhub.md has the configuration."
            ) from None

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    @property
    def callback(self) -> str:
        return f"{self.prefix}oauth_callback"

    def redirect(self, request: Any) -> Any:
        """To the Hub's login, and back."""
        from starlette.responses import RedirectResponse

        state = secrets.token_urlsafe(16)
        query = {"client_id": self.client_id, "redirect_uri": self.callback, "response_type": "code", "state": state}
        response = RedirectResponse(f"{self.host}{self.base}hub/api/oauth2/authorize?{urlencode(query)}", 303)
        response.set_cookie(
            "mi_hub_state", state, max_age=600, path=None, httponly=True, samesite="lax",
            secure=request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").startswith("https"),
        )  # fmt: skip
        return response

    def lead_name(self, request: Any) -> str | None:
        """The user who comes back from the Hub, if the Hub's roles give them access to this service."""
        state, expected = request.query_params.get("state", ""), request.cookies.get("mi_hub_state", "")
        code = request.query_params.get("code", "")
        if not expected or not secrets.compare_digest(state.encode(), expected.encode()) or len(code) > 1000:
            return None
        form = {
            "client_id": self.client_id,
            "client_secret": self.token,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback,
        }
        try:
            token = self._ask("oauth2/token", data=urlencode(form).encode())["access_token"]
            user = self._ask("user", token=token)
        except (OSError, ValueError, KeyError):
            return None
        granted = {f"access:services!service={self.name}", "access:services"}
        return str(user["name"]) if granted & set(user.get("scopes", ())) else None

    def _ask(self, path: str, data: bytes | None = None, token: str = "") -> dict[str, Any]:
        request = urllib.request.Request(f"{self.api}/{path}", data=data)
        if token:
            request.add_header("Authorization", f"token {token}")
        with urllib.request.urlopen(request, timeout=10) as reply:
            return dict(json.load(reply))
