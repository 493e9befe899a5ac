"""The login page: one form, no script, every text escaped."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Log in</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0;
       color-scheme: light dark }}
form {{ display: grid; gap: .6rem; width: 18rem }}
input, button {{ font: inherit; padding: .5rem }}
p {{ margin: 0 }}
</style>
<form method="post" action="authorize">
<h1>Log in</h1>
<p>to {client}</p>
<input type="hidden" name="login" value="{login}">
<label>Name <input name="username" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button>
<p role="alert">{message}</p>
</form>
</html>
"""


def login_page(client: str, login: str, message: str = "", status: int = 200) -> HTMLResponse:
    """The page for one login; `message` says why it is shown again."""
    return HTMLResponse(
        _PAGE.format(client=escape(client), login=escape(login), message=escape(message)),
        status,
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
