# A login shell (Lab's terminals are) starts with Debian's own search path: the user's programs are added again.
if [ -n "${PYTHONUSERBASE:-}" ] && [ "${DAAS_SAFE_START:-}" != 1 ]; then
    PATH="$PATH:$PYTHONUSERBASE/bin"
fi
