if [ "$(command -v deactivate)" = deactivate ]; then deactivate; fi
@SAVE@
deactivate() {
    @RESTORE@
    if [ -n "${_OLD_VIRTUAL_PS1+x}" ]; then PS1=$_OLD_VIRTUAL_PS1; unset -v _OLD_VIRTUAL_PS1; fi
    hash -r 2>/dev/null
    unset -f deactivate
}
@SET@
unset -v @UNSET@
PATH=@BIN@${PATH:+":$PATH"}; export PATH
if [ -n "${PS1+x}" ] && [ -z "${VIRTUAL_ENV_DISABLE_PROMPT-}" ]; then
    _OLD_VIRTUAL_PS1=$PS1
    PS1="($VIRTUAL_ENV_PROMPT) $PS1"
fi
hash -r 2>/dev/null
