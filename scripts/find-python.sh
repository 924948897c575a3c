#!/bin/sh
# Print a Python of 3.11 or newer that can make an environment, or one line "error: ..." that says what to install.
# An argument names the only one to try.

if [ -n "${1-}" ]; then
    set -- "$1"
    none="$1 is not a Python of 3.11 or newer"
else
    set -- python3.14 python3.13 python3.12 python3.11 python3
    none="no Python of 3.11 or newer was found"
fi

bare=
for python in "$@"; do
    [ "$("$python" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" = True ] || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
    bare=${bare:-$python}
done

if [ -n "$bare" ]; then
    version=$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: $bare lacks venv or pip: install them (Debian and Ubuntu: apt install python$version-venv)," \
        "or name another Python with PYTHON=/path/to/python"
else
    echo "error: $none: install one with venv (Debian and Ubuntu: apt install python3 python3-venv)," \
        "or name one with PYTHON=/path/to/python"
fi
