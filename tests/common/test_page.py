"""Pages of reports: what comes from outside stays text, and nothing is loaded."""

import base64
import io

import numpy as np
from PIL import Image

from ffa_sora_jax.common import page

HOSTILE = '"><script>alert(1)</script>'


def test_hostile_text_stays_text():
    parts = [
        page.section(HOSTILE, page.listing([{HOSTILE: HOSTILE}])),
        page.pairs({HOSTILE: HOSTILE}),
        page.figure("data:image/webp;base64,", HOSTILE, alt=HOSTILE),
        page.bars({HOSTILE: 3}),
        page.histogram([1.0, 2.0], HOSTILE),
        page.nothing(HOSTILE),
    ]
    text = page.document(HOSTILE, parts)
    assert "<script" not in text and text.count("&lt;script&gt;") == 11


def test_the_page_forbids_itself_to_load_anything():
    text = page.document("title", ["", "<p>body</p>"])
    assert "default-src 'none'" in text and "://" not in text and "<body>\n<p>body" in text


def test_pictures_are_reduced_to_a_width_and_keep_their_shape():
    picture = np.zeros((40, 200, 3), np.uint8)
    picture[:, 100:] = (250, 20, 20)
    kind, data = page.data_url(picture, max_width_px=100).split(",")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert kind == "data:image/webp;base64" and image.shape == (20, 100, 3)
    assert image[10, 80, 0] > 200 > 60 > image[10, 20, 0]  # RGB, not BGR


def test_columns_of_whole_numbers_are_right_aligned():
    text = page.table(["name", "n"], [["a", 3], ["b", 12]])
    assert '<th class="n">n' in text and '<td class="n">12' in text and "<td>a" in text
    assert "<th" not in page.table(["", ""], [["a", "b"]])


def test_long_listings_and_many_bars_say_what_they_leave_out():
    assert "and 5 more" in page.listing([{"k": i} for i in range(page.LISTED + 5)])
    text = page.bars({str(i): 2 for i in range(20)}, most=4)
    assert "17 others" in text and ">34<" in text


def test_a_histogram_counts_every_value():
    text = page.histogram([0.0] * 3 + [1.0] * 5, "label", num_bins=2)
    assert "0 to 0.5: 3" in text and "0.5 to 1: 5" in text and page.histogram([], "x") == ""


def test_marks():
    assert "PATIENT" not in page.mark(synthetic=True)
    assert "PATIENT DATA" in page.mark(synthetic=False)
