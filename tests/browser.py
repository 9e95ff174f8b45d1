"""A real browser for pages that tests look at."""

import shutil
import subprocess

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(address: str, *, width: int = 1500, is_dark: bool = False) -> tuple[str, str]:
    """The page at an address as Chromium renders it, and what Chromium logs, the page's console too."""
    assert BROWSER is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    if is_dark:
        options.append("--blink-settings=preferredColorScheme=0")
    finished = subprocess.run(
        [
            BROWSER,
            *options,
            f"--window-size={width},900",
            "--virtual-time-budget=30000",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return finished.stdout, finished.stderr
