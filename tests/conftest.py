"""What every test can rely on: one thread, no network calls at import, and the optional extras.

The fixtures at the end run the app as a user does, on small simulated data, with a model of no
worth.

Tests that need something a fresh machine may lack (FSL, SLURM, Chromium, the real scans) say so
with a marker and are skipped, with the reason, where it is missing.
"""

from __future__ import annotations

import os

# Before anything imports numpy, torch or Nipype: several workers share the cores, and Nipype asks
# a server for its newest version when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NIPYPE_NO_ET"] = "1"

import dataclasses
import hashlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# A shell that runs the tests in the background may have told them, and so all that they start, to
# ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
FSL_PROGRAMS = ("flirt", "fast", "bet")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def shared_data_folder() -> Path:
    """Return the folder of real scans, which need not exist."""
    named = os.environ.get("COLAPIPE_TEST_DATA")
    return Path(named).expanduser() if named else ROOT.parent / "shared" / "data"


def _missing_shared_data() -> str | None:
    folder = shared_data_folder()
    if folder.is_dir():
        return None
    return f"no real scans at {folder}; set COLAPIPE_TEST_DATA to the folder that holds them"


def _missing_fsl() -> str | None:
    folders = os.environ.get("PATH", "")
    if fsldir := os.environ.get("FSLDIR"):
        folders = os.pathsep.join((str(Path(fsldir) / "bin"), folders))
    missing = [name for name in FSL_PROGRAMS if shutil.which(name, path=folders) is None]
    return f"FSL is not here: no {', '.join(missing)} in FSLDIR/bin or PATH" if missing else None


def _missing_slurm() -> str | None:
    if os.environ.get("COLAPIPE_TEST_SLURM"):
        try:
            answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=30)
        except (FileNotFoundError, subprocess.TimeoutExpired) as err:
            return f"COLAPIPE_TEST_SLURM is set, but SLURM does not answer: {err}"
        return None if answer.returncode == 0 else "COLAPIPE_TEST_SLURM is set, but sinfo failed"
    # Otherwise tests/slurm starts a SLURM of its own.
    if os.geteuid() != 0:
        return "only root can start a SLURM; COLAPIPE_TEST_SLURM=1 takes the one of this machine"
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        return "SLURM is not here: no slurmctld in PATH, and no apt-get to install it with"
    return None


def _find_chromium() -> str | None:
    return next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


def _missing_chromium() -> str | None:
    for module in ("playwright", "axe_playwright_python"):
        if importlib.util.find_spec(module) is None:
            return f"no {module}: pip install 'colapipe[test]'"
    if _find_chromium() or (os.geteuid() == 0 and shutil.which("apt-get")):
        return None
    return f"no Chromium: none of {', '.join(CHROMIUM_NAMES)} in PATH, and only root installs it"


REQUIREMENTS = {
    "fsl": _missing_fsl,
    "slurm": _missing_slurm,
    "chromium": _missing_chromium,
    "shared_data": _missing_shared_data,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose marker names something that is not on this machine."""
    for name, missing in REQUIREMENTS.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        reason = missing() if marked else None
        if reason is not None:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans laid out as BIDS datasets; skips the test where it is absent."""
    if reason := _missing_shared_data():
        pytest.skip(reason)
    return shared_data_folder()


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run left: exit code and everything it printed."""

    code: int
    text: str


@pytest.fixture(scope="session")
def install_packages() -> Callable[..., None]:
    """Install Debian packages as root, or skip the test with what stood in the way."""

    def install(*packages: str) -> None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = ("-o", "DPkg::Lock::Timeout=300")
        # Tests in other processes want the same, and apt-get does not wait for all of its locks.
        with FileLock(Path(tempfile.gettempdir()) / "colapipe-tests-apt.lock"):
            for command in (
                ["apt-get", *wait, "update", "-qq"],
                ["apt-get", *wait, "install", "-qq", "--no-install-recommends", *packages],
            ):
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode != 0:
                    reason = done.stderr.strip()[-300:]
                    pytest.skip(f"{packages[0]} cannot be installed: {reason}")

    return install


@pytest.fixture(scope="session")
def browser(install_packages: Callable[..., None]) -> Iterator[Browser]:
    """The machine's Chromium without a window; for tests marked ``chromium``."""
    from playwright.sync_api import sync_playwright

    if _find_chromium() is None:
        install_packages("chromium", "fonts-dejavu-core")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=_find_chromium(),
            # Chromium does not run as root in its sandbox; containers have a small /dev/shm.
            # The 3-D page draws with WebGL, here in software.
            args=[
                *("--no-sandbox", "--disable-dev-shm-usage"),
                *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
            ],
        )
        yield started
        started.close()


@dataclasses.dataclass(frozen=True)
class OpenPage:
    """A page opened from the file system, without a network.

    Attributes
    ----------
    page : Page
        As Playwright drives it.
    problems : list of str
        What a clean page has none of: errors and warnings of the console, scripts that failed, and
        requests for anything but the page itself.
    """

    page: Page
    problems: list[str]

    def undecoded(self) -> list[str]:
        """Descriptions of the images that do not decode."""
        found = self.page.evaluate(
            """() => Promise.all([...document.images].map(
                image => image.decode().then(() => null, () => image.alt || "no alt")))"""
        )
        return [alt for alt in found if alt is not None]

    def too_wide(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.page.evaluate(
                "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    def accessibility(self) -> list[str]:
        """Serious and critical findings of axe-core, each with the elements it is about."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        return [
            f"{entry['id']}: {entry['help']}: {[node['html'][:200] for node in entry['nodes']]}"
            for entry in violations
            if entry["impact"] in ("serious", "critical")
        ]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., OpenPage]]:
    """Open a file in a window of its own; options are those of ``Browser.new_context``."""
    contexts = []

    def open_file(path: Path, width: int = 1440, height: int = 900, **options: Any) -> OpenPage:
        viewport = {"width": width, "height": height}
        # Set explicitly, whatever the machine says.
        options = {"color_scheme": "light", "reduced_motion": "no-preference", **options}
        context = browser.new_context(viewport=viewport, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        problems: list[str] = []
        uri = path.resolve().as_uri()

        def note_request(request: Any) -> None:
            if request.url != uri and not request.url.startswith(("data:", "blob:")):
                problems.append(f"request: {request.url}")

        def note_message(message: Any) -> None:
            if message.type in ("error", "warning"):
                problems.append(f"{message.type}: {message.text}")

        def note_dialog(dialog: Any) -> None:
            problems.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("dialog", note_dialog)
        page.goto(uri)
        return OpenPage(page, problems)

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def app() -> Callable[..., Result]:
    """Run ``colapipe`` in a process of its own; every argument is turned into text."""

    def run(*arguments: object, prefix: tuple[str, ...] = (), **environment: str) -> Result:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "colapipe.cli.app", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Against hanging only.
            timeout=900,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
        return Result(done.returncode, done.stdout)

    return run


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of a few thousand parameters that knows all contrasts."""
    from colapipe.coladiff.presets import write_nano_checkpoint

    return write_nano_checkpoint(tmp_path_factory.mktemp("model") / "nano.safetensors")


@pytest.fixture(scope="session")
def quick(nano: Path) -> list[object]:
    """Options of a run that is quick and needs no network of its own to find brains."""
    return [
        "participant",
        *("--engine", "builtin"),
        *("--skull-strip", "skip"),
        *("--model", nano),
        # A process more for each contrast; it has tests of its own.
        *("--self-check", "off"),
        "--sloppy",
        "--skip-bids-validation",
    ]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three brain-extracted participants at 3 mm; the second lacks T2w, the third FLAIR."""
    pytest.importorskip("nilearn")
    from colapipe.phantom import simulate_dataset

    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "raw", resolution=3, head=False)


@pytest.fixture(scope="session")
def fingerprints() -> Callable[..., dict[str, str]]:
    """Hash the files of a folder that match a pattern, by their path in it."""

    def take(folder: Path, pattern: str = "sub-*/**/*") -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob(pattern))
            if path.is_file()
        }

    return take
