# Sourced by the other scripts: makes or refreshes .venv. `need run` for the package, `need dev` for tests and linters too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer with the venv module found; install one, or name it: PYTHON=/path/to/python $0" >&2
  exit 2
}

has_torch() { "$1" -c 'import torch; assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)' 2>/dev/null; }

need() {
  local stamp=".venv/.made-for-$1" unfinished=.venv/.unfinished wanted
  wanted=$(cksum pyproject.toml)
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/python ] && return
  if [ -e "$unfinished" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    local python shared=""
    python=$(find_python)
    has_torch "$python" && shared="--system-site-packages"
    rm -rf .venv
    "$python" -m venv $shared .venv
  fi
  if ! has_torch .venv/bin/python; then
    echo "Installing into .venv. PyTorch is the large part: about 200 MB to fetch where pip finds a CPU build, about 3 GB for"
    echo "the CUDA build that PyPI serves on Linux. For the small one, point PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to it."
  fi
  local extra=""
  [ "$1" = dev ] && extra="[dev]"
  local code=0 cut=""
  touch "$unfinished" # pip does not mend what it was stopped in; the next call makes the environment anew
  trap 'cut=yes' INT
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extra" || code=$?
  trap - INT
  # 1: it gave up by itself, for want of a network say, and had changed nothing
  if [ -z "$cut" ] && [ "$code" -le 1 ]; then rm "$unfinished"; fi
  [ "$code" = 0 ] || exit "$code"
  echo "$wanted" >"$stamp"
}

# Reports are tested in a real Chromium: Debian's, where one is root and has apt-get; elsewhere it is said how to get one.
need_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return
  done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium, for the tests of reports."
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && return
  fi
  echo "warning: no Chromium found, so the tests of reports in a browser will fail. Install it (Debian, Ubuntu: sudo apt-get" >&2
  echo "install chromium) or Google Chrome; scripts/test --fast needs none." >&2
}

# The libraries that we are timed beside, in an environment of their own.
need_peers() {
  local wanted stamp=.venv-peers/.made
  wanted=$(cksum bench/peers/requirements.txt)
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  echo "Installing the peers into .venv-peers: about 1.8 GB, with a PyTorch of their own."
  rm -rf .venv-peers
  "$(find_python)" -m venv .venv-peers
  .venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
  echo "$wanted" >"$stamp"
}
