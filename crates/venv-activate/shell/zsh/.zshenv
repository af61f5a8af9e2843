# An interactive zsh of venv-activate finds its files here (ZDOTDIR, see zsh(1)). Each reads the user's own one, as if that
# had been found, and the next one here after it.

_venvd_files=$ZDOTDIR
unset ZDOTDIR
if [[ -r ~/.zshenv ]]; then
    source ~/.zshenv
fi
# The user's .zshenv may have said where the others are.
_venvd_zdotdir=${ZDOTDIR-}
ZDOTDIR=$_venvd_files
