"""Pages of the site that are made from the code and the repository whenever it is built.

``configuration.md`` is from ``conf/``, ``commands.md`` from what the commands say of themselves, and
``library.md`` from the tutorial in Python. The README is the start page, and other documents of the
repository become pages too.
"""

import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[2]
TUTORIAL = "examples/tutorial.py"
DOCUMENTS = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "src/speakerquant/architectures/ecapa_tdnn/shipped/MODEL_CARD.md": "MODEL_CARD.md",
}
"""Page by document of the repository."""
PAGES = DOCUMENTS | {TUTORIAL: "library.md", "conf/": "configuration.md"}
"""Page by what documents link to; a folder stands for all that is in it."""

_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
# Of docstrings, which Sphinx would resolve.
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")
_SUBCOMMANDS = re.compile(r"\{([a-z,]+)\} \.\.\.")
_COLUMNS = "100"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in docs/ holds."""
    pages = {page: (PROJECT / document).read_text() for document, page in DOCUMENTS.items()}
    pages["library.md"] = script_as_page((PROJECT / TUTORIAL).read_text())
    pages["configuration.md"] = configuration_page()
    pages["commands.md"] = commands_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links of the repository lead to the pages that stand for what they name."""
    sources = {page: Path(document).parent for document, page in DOCUMENTS.items()}
    folder = sources.get(page.file.src_uri, Path("docs"))

    def on_site(link: re.Match[str]) -> str:
        target = os.path.normpath(folder / link[1])
        return f"]({page_of(target)}{link[2] or ''})"

    return _LINK.sub(on_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave what docstrings refer to as plain code."""
    return _ROLE.sub("", html)


def page_of(target: str) -> str:
    """The page, or file of docs/, that stands for a path in the repository."""
    for linked, page in PAGES.items():
        if target == linked or (linked.endswith("/") and f"{target}/".startswith(linked)):
            return page
    return target.removeprefix("docs/")


def script_as_page(script: str) -> str:
    """A script in percent form: cells of text as they are, cells of code as code."""
    cells = re.split(r"^# %%(.*)\n", script, flags=re.MULTILINE)[1:]
    parts = []
    for kind, cell in zip(cells[::2], cells[1::2], strict=True):
        text = cell.strip("\n")
        if "[markdown]" in kind:
            parts.append(re.sub(r"^# ?", "", text, flags=re.MULTILINE))
        else:
            parts.append(f"```python\n{text}\n```")
    return "\n\n".join(parts) + f"\n\nAll of this is `{TUTORIAL}`.\n"


def configuration_page() -> str:
    """Every file of ``conf/``, with keys, defaults and comments: those of commands, then groups."""
    folder = PROJECT / "conf"
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        groups.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path)
    parts = [
        "# Configuration",
        "Every key with its default and what it means, as the files in `conf/` have them. Any of them can be "
        "given on the command line: `key=value`, `group=option`, and several in a multirun, `-m key=a,b`. "
        "`--cfg job` shows what a command would run with.",
    ]
    for group in sorted(groups, key=lambda name: (name != ".", name)):
        if group != ".":
            options = ", ".join(f"`{path.stem}`" for path in groups[group])
            parts.append(f"## Group `{group}`\n\n`{group}=` {options}.")
        for path in groups[group]:
            name = f"`{path.stem}.yaml`" if group == "." else f"`{group}={path.stem}`"
            yaml.compose(text := path.read_text())  # a file that Hydra could not read is no reference
            parts.append(f"{'##' if group == '.' else '###'} {name}\n\n```yaml\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """What every console command prints when it is asked for help."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    commands = {name: target.partition(":")[2] for name, target in project["scripts"].items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        helps = list(pool.map(_help_of, commands.items()))
    parts = ["# Commands", "What each command prints for `--help`."]
    for command, sections in zip(commands, helps, strict=True):
        parts.append(f"## {command}")
        parts += [f"```text\n$ {typed} --help\n{text.strip()}\n```" for typed, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _help_of(command: tuple[str, str]) -> dict[str, str]:
    """What a command and its subcommands say, by what was typed."""
    name, function = command
    said = {name: _help(name, function)}
    if found := _SUBCOMMANDS.search(said[name]):
        said |= {f"{name} {each}": _help(name, function, each) for each in found[1].split(",")}
    return said


def _help(name: str, function: str, *arguments: str) -> str:
    program = (
        f"import sys; from speakerquant.commands.launch import {function}; "
        f"sys.argv = [{name!r}, *{arguments!r}, '--help']; {function}()"
    )
    environment = os.environ | {"COLUMNS": _COLUMNS, "PYTHONPATH": str(PROJECT / "src")}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return finished.stdout
