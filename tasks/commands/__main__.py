"""The `cliptd` command: `cliptd` lists the commands, `cliptd NAME …` runs one."""

import ast
import difflib
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Run the command that the first argument names; dashes and underscores are the same in it."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help"):
        print(listing())
        return
    name, known = given[0].replace("-", "_"), names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(known)}"
        print(f"error: cliptd has no command {given[0]!r}; {hint}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"cliptd {name}", *given[1:]]
    importlib.import_module(f"tasks.commands.{name}").main()


def names() -> list[str]:
    """Return the names of all commands, which are those of the files beside this one."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if not file.stem.startswith("_"))


def listing() -> str:
    """Return a line for each command; only the files' docstrings are read."""
    lines = ["usage: cliptd COMMAND [options]; cliptd COMMAND --help says more", ""]
    for name in names():
        about = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:<20} {' '.join(about.split(chr(10) * 2)[0].split())}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
