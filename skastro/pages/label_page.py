"""Fill the page on which a person labels objects in the browser."""

from __future__ import annotations

from skastro.pages.explorer import render
from skastro.pages.label_record import CLASS_KEYS


def label_page(title: str, *, nonce: str) -> str:
    """Return the HTML of the page that `skastro label` serves.

    The page asks its own server for questions and pictures, and nobody else for anything. Its
    address carries the token of the server as ``?token=``. ``nonce`` is the random text of
    `content_policy`, new for each request.

    Examples
    --------
    >>> page = label_page("my survey", nonce="x7")
    >>> "<title>my survey" in page, '<script nonce="x7">' in page
    (True, True)
    """
    content = {"title": title, "nonce": nonce, "class_keys": CLASS_KEYS}
    return render("label.html", content, needed_by="The page of skastro label")


def content_policy(nonce: str) -> str:
    """Return the header ``Content-Security-Policy`` with which the page is served.

    It allows the scripts and styles that carry the nonce, and requests and pictures of the same
    server. The browser refuses all others.

    Examples
    --------
    >>> content_policy("x7").split("; ")[:2]
    ["default-src 'none'", "script-src 'nonce-x7'"]
    """
    rules = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'nonce-{nonce}'",
        "img-src": "'self' data:",  # the icon of the page is an empty data address
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
