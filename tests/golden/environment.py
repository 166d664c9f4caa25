"""PyTorch for the scripts that make golden files and comparisons: the one at hand, else one that is installed in a
virtual environment of its own. Tests don't need it."""
import importlib.util
import os
import pathlib
import subprocess
import sys
import venv

PACKAGES = ["torch", "numpy"]


def add_option(parser):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    parser.add_argument(
        "--venv",
        type=pathlib.Path,
        default=cache / "neuron-golden" / "venv",
        help="where PyTorch is installed when this Python has none (default: %(default)s)",
    )


def require_pytorch(folder):
    """Returns when this interpreter has PyTorch; else starts the script again with the virtual environment's."""
    if all(importlib.util.find_spec(package) for package in PACKAGES):
        return
    folder = folder.resolve()
    python = folder / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == folder:
        sys.exit(f"{folder} has no {' and '.join(PACKAGES)}: remove it, so that it is made again")
    installed = folder / "installed"  # written last: an environment without it is one that was interrupted
    if not installed.exists():
        print(f"installing {', '.join(PACKAGES)} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        installed.touch()
    os.execv(python, [str(python), *sys.argv])
