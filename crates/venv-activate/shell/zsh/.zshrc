# See .zshenv. After the user's own file the venv is put in front again, in PATH and in the prompt.

if [[ -n $_venvd_zdotdir ]]; then
    ZDOTDIR=$_venvd_zdotdir
else
    unset ZDOTDIR
fi
unset _venvd_files _venvd_zdotdir
if [[ -r ${ZDOTDIR-$HOME}/.zshrc ]]; then
    source ${ZDOTDIR-$HOME}/.zshrc
fi

if [[ $PATH != $VIRTUAL_ENV/bin(|:*) ]]; then
    PATH=$VIRTUAL_ENV/bin${PATH:+:$PATH}
fi

# Before every prompt, after whatever else makes one then.
_venvd_prompt() {
    if [[ $PROMPT != "($VENVD_APP:$VENVD_TAG) "* ]]; then
        PROMPT="($VENVD_APP:$VENVD_TAG) $PROMPT"
    fi
}
typeset -ga precmd_functions
precmd_functions+=(_venvd_prompt)
