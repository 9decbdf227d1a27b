"""The pages of the documentation as text: their blocks of Python, and the commands that they name."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMAND = re.compile(r"`((?:[A-Z_]+=\S+ )?(?:srun )?(?:python|rnn-jax|pip|mkdocs) [^`]+)`")
HISTORY = DOCS / "changelog.md"  # of names that were true on their day


def python_blocks(page):
    """Returns the blocks of Python of a page, named by its path in the repository."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(page):
    """Returns the commands of a page's shell blocks and of its text, each as a list of words."""
    text = page.read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [
        " ".join(line.split()) for line in COMMAND.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]
    split = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [words for words in map(without_variables, split) if words]


def without_variables(words):
    """Returns a command without the variables that are set for it, and without `srun`."""
    while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "srun"):
        words = words[1:]
    return words
