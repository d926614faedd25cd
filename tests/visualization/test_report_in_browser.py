"""The report page in a real browser, without a screen."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
from report_data import write_report_data

from mmrefine.visualization.report import write_report

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
# Appended to a copy of the page: reorder the images, then say what the browser made of it.
PROBE = """<script>
const order = document.getElementById('order');
order.value = 'behind'; order.dispatchEvent(new Event('change'));
document.title = JSON.stringify([
  [...document.images].filter(image => image.naturalWidth > 0).length, document.images.length,
  [...document.querySelectorAll('article h3')].map(title => title.textContent).join(),
  document.documentElement.scrollWidth <= window.innerWidth]);
</script>"""


@pytest.fixture(scope='module')
def browser() -> str:
    """The browser: $MMREFINE_BROWSER, or the first one installed."""
    found = os.environ.get('MMREFINE_BROWSER') or next(
        filter(None, map(shutil.which, BROWSERS)), ''
    )
    if not found:
        pytest.fail('no browser: apt-get install chromium, or set MMREFINE_BROWSER')
    return found


def show(browser: str, page: Path, *options: str) -> str:
    command = [browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars']
    command += [
        '--host-resolver-rules=MAP * ~NOTFOUND',
        f'--user-data-dir={page.parent / "profile"}',
    ]
    done = subprocess.run(
        [*command, '--window-size=1500,2400', *options, page.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_a_browser_shows_the_page_and_reorders_it(browser: str, tmp_path: Path) -> None:
    gt, pictures, sharp, blunt = write_report_data(tmp_path)
    page = write_report(gt, {'blunt': blunt, 'sharp': sharp}, tmp_path / 'report.html', pictures)
    show(browser, page, f'--screenshot={tmp_path / "shot.png"}')
    shot = cv2.imread(str(tmp_path / 'shot.png'))
    assert shot.shape == (2400, 1500, 3)
    assert shot[:1200].std() > 20

    probe = tmp_path / 'probe.html'
    probe.write_text(page.read_text().replace('</body>', PROBE + '</body>'))
    assert re.findall('<h3>(.*?)</h3>', page.read_text())[0] != '0.png'
    title = show(browser, probe, '--dump-dom').split('<title>')[1].split('</title>')[0]
    assert title == '[45,45,"0.png,1.png,2.png,3.png,4.png",true]'
