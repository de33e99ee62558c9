#!/usr/bin/env bash
# Makes the virtual environment .venv and installs the project into it, once: a second run finds the stamp and returns.
#   scripts/setup.sh          what the library and its command line need
#   scripts/setup.sh dev      the same, and what the tests, linter and type checker need
# Environment:
#   PYTHON       the interpreter to take (otherwise one of 3.11 to 3.13 is looked for)
#   TORCH_INDEX  package index for torch alone, such as PyTorch's CPU index (see docs/install.md)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra="${1:-}"
venv_python=.venv/bin/python

# Succeeds when "$1" starts, is of a supported version and can make a virtual environment. A name on PATH proves
# nothing: version managers put stand-ins there for versions they do not have, and Debian's python3 comes without venv.
usable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

candidates() {
  local name folder
  # 3.11 first: the oldest supported version has every wheel.
  for name in python3.11 python3.12 python3.13 python3 python; do
    type -ap "$name" || true
  done
  for folder in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[123]*; do
    if [ -x "$folder/bin/python3" ]; then echo "$folder/bin/python3"; fi
  done
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    if usable "$PYTHON"; then echo "$PYTHON"; return 0; fi
    echo "PYTHON=$PYTHON does not run, is not Python 3.11 to 3.13, or lacks the venv module. Name another, or leave PYTHON unset." >&2
    return 1
  fi
  while IFS= read -r candidate; do
    if usable "$candidate"; then echo "$candidate"; return 0; fi
  done < <(candidates)
  {
    echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Looked at:"
    candidates | sed 's/^/  /'
    echo "Install one (python.org; 'apt install python3-venv' on Debian and Ubuntu; 'brew install python@3.12' on macOS),"
    echo "or name one: make demo PYTHON=/path/to/python3.12"
  } >&2
  return 1
}

# What the environment was made from. The folder belongs to it: an editable install does not survive a move.
wanted_stamp() {
  printf '%s\n' "$PWD" "${TORCH_INDEX:-}"
  cksum pyproject.toml constraints.txt
}

stamp=".venv/.installed${extra:+-$extra}"
# An environment with an extra has all that the one without needs.
for made in "$stamp" .venv/.installed-dev; do
  if [ -f "$made" ] && [ "$(cat "$made")" = "$(wanted_stamp)" ] && usable "$venv_python"; then exit 0; fi
done

if ! usable "$venv_python"; then
  python="$(find_python)"
  echo "Setting up .venv with $("$python" --version) ($python)"
  rm -rf .venv
  "$python" -m venv .venv
fi

# Errors only: with several package sources configured, pip's warnings bury everything else.
pip_install() {
  "$venv_python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile --constraint constraints.txt "$@"
}

# uv looks up, downloads and unpacks many packages at once, in seconds what takes pip minutes on one core. Where there is no uv, or it fails, pip
# does the same, and tells what is wrong.
install() {
  { pip_install uv && "$venv_python" scripts/uv_install.py --constraint constraints.txt "$@"; } >/dev/null 2>&1 || pip_install "$@"
}

# torch alone: its index has few versions of what torch needs, which comes with the package below.
more=()
if [ -n "${TORCH_INDEX:-}" ]; then
  more=(--extra-index-url "$TORCH_INDEX")
  if ! pip_install --no-deps --index-url "$TORCH_INDEX" torch; then
    echo "torch could not be installed from $TORCH_INDEX; check the address, and that this machine can reach it, or leave TORCH_INDEX out." >&2
    exit 1
  fi
elif [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && ! "$venv_python" -c 'import torch' 2>/dev/null; then
  echo "No NVIDIA driver found. If torch now downloads gigabytes of CUDA libraries, stop and see 'Without a GPU' in docs/install.md."
fi

rm -f "$stamp"
echo "Installing the package${extra:+ with the extra '$extra'} (a few minutes the first time)"
install ${more[@]+"${more[@]}"} --editable ".${extra:+[$extra]}"
# What pip would do itself, on one core, file by file. Some packages hold files for other versions of Python, which do not compile. Almost half
# of the source is tests, models and mypy, which runs as machine code, that nothing here imports: the few files that are wanted are compiled by
# their first import.
unused='/tests?/|/transformers/models/|/diffusers/(models|pipelines)/|/torch/(testing|_inductor|onnx)/|/(pip|setuptools)/'
unused+='|/ray/(autoscaler|dashboard|llm|rllib|train|tune)/|/mypyc?/|/diffusers/modular_pipelines/|/pygments/lexers/|/sympy/physics/'
unused+='|/onnxruntime/(quantization|tools|transformers)/|/pyasn1_modules/'
"$venv_python" -m compileall -q -j 0 -x "$unused" .venv/lib >/dev/null 2>&1 || true
wanted_stamp > "$stamp"
