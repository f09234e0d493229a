"""Pieces of HTML pages: everything is escaped, nothing lies beside the file."""

from PIL import Image

from tasks import page


def test_texts_are_escaped():
    assert page.paragraph("a < b & c") == "<p>a &lt; b &amp; c</p>"
    assert page.bullets(["<i>"], "verdict") == "<ul class=verdict><li>&lt;i&gt;</li></ul>"
    assert page.code("<x>") == "<pre>&lt;x&gt;</pre>"
    table = page.table([{"a<": 1.5}, {"b": '"'}])
    assert '<td data-name="a&lt;">1.50</td><td data-name="b"></td>' in table
    assert '<td data-name="b">&quot;</td>' in table


def test_a_page_has_a_title_a_viewport_and_its_own_style():
    text = page.page("T & t", ["<p>x</p>"], style=".own{}")
    assert text.startswith("<!doctype html><html lang=en>")
    assert "<title>T &amp; t</title>" in text
    assert "name=viewport" in text
    assert ".own{}</style>" in text


def test_images_are_embedded():
    png = page.png(Image.new("RGBA", (2, 3)))
    assert png[:4] == b"\x89PNG"
    assert page.picture(png, 'a "b"').startswith('<img alt="a &quot;b&quot;" src="data:image/png;base64,')
