# Use with ". bin/activate" in a POSIX shell: puts the programs of @NAME@ in front.
# A service needs none of this, and neither does a script: venv-activate(1) runs a command in the venv in force.

deactivate() {
    if [ -n "${_VENVD_OLD_PATH+set}" ]; then
        PATH=$_VENVD_OLD_PATH
        export PATH
        unset _VENVD_OLD_PATH
    fi
    if [ -n "${_VENVD_OLD_PS1+set}" ]; then
        PS1=$_VENVD_OLD_PS1
        unset _VENVD_OLD_PS1
    fi
    unset VIRTUAL_ENV VIRTUAL_ENV_PROMPT
    hash -r 2>/dev/null
    if [ "${1-}" != keep ]; then
        unset -f deactivate
    fi
}

deactivate keep
VIRTUAL_ENV=@VENV@
VIRTUAL_ENV_PROMPT=@NAME@
_VENVD_OLD_PATH=$PATH
PATH=$VIRTUAL_ENV/bin:$PATH
export VIRTUAL_ENV VIRTUAL_ENV_PROMPT PATH
if [ -n "${PS1+set}" ]; then
    _VENVD_OLD_PS1=$PS1
    PS1="(@NAME@) $PS1"
fi
hash -r 2>/dev/null
