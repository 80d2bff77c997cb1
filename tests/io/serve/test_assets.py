"""The page's files: what the build made and nothing else, under a policy that lets nothing else run."""

import os
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agentpipe.io.serve.assets import Page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tmp_path / "web"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html>")
    (built / "assets" / "app-1234.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    return built


def get(page: Page, path: str, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return page.answer(make_mocked_request("GET", path, headers=named))


def test_the_page_is_served_under_a_strict_policy(folder: Path):
    answer = get(Page(str(folder)), "/")
    assert answer.body == b"<!doctype html>"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-cache"


def test_files_named_after_their_content_never_change(folder: Path):
    answer = get(Page(str(folder)), "/assets/app-1234.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]


def test_an_unchanged_file_is_not_sent_again(folder: Path):
    page = Page(str(folder))
    tag = get(page, "/").headers["ETag"]
    again = get(page, "/", If_None_Match=tag)
    assert (again.status, again.body) == (304, None)
    (folder / "index.html").write_text("<!doctype html><p>new")
    os.utime(folder / "index.html", (1, 1))
    changed = get(page, "/", If_None_Match=tag)
    assert (changed.status, changed.body) == (200, b"<!doctype html><p>new")


@pytest.mark.parametrize("path", ["/../secret", "/..%2fsecret", "/assets/../../secret", "/none", "/assets", "/assets/"])
def test_nothing_else_is_served(folder: Path, path: str):
    page = Page(str(folder))
    assert not page.holds(path)
    with pytest.raises(web.HTTPNotFound):
        get(page, path)


def test_a_page_that_was_not_built_is_said_to_be_missing(tmp_path: Path):
    answer = get(Page(str(tmp_path / "none")), "/")
    assert answer.status == 200
    assert b"not built" in bytes(answer.body or b"")  # type: ignore[arg-type]
