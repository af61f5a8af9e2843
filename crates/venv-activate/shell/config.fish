# What a fish of venv-activate reads after its configuration (`--init-command`, see fish(1)): the venv is put in front
# again, in PATH and in the prompt.

if test "$PATH[1]" != "$VIRTUAL_ENV/bin"
    set --global --export PATH $VIRTUAL_ENV/bin $PATH
end

functions --copy fish_prompt _venvd_users_prompt

function _venvd_status
    return $argv[1]
end

function fish_prompt
    # A prompt may want to show how the last command ended.
    set --local last $status
    printf '(%s:%s) ' $VENVD_APP $VENVD_TAG
    _venvd_status $last
    _venvd_users_prompt
end
