if functions --query deactivate
    deactivate
end
@SAVE@
function deactivate --description 'Leave the venv'
    @RESTORE@
    if set --query _OLD_FISH_PROMPT_OVERRIDE
        functions --erase fish_prompt
        functions --copy _old_fish_prompt fish_prompt
        functions --erase _old_fish_prompt
        set --erase --global _OLD_FISH_PROMPT_OVERRIDE
    end
    functions --erase deactivate _venvd_status
end
@SET@
set --erase @UNSET@
set --global --export PATH @BIN@ $PATH
function _venvd_status
    return $argv[1]
end
if status is-interactive; and test -z "$VIRTUAL_ENV_DISABLE_PROMPT"
    functions --copy fish_prompt _old_fish_prompt
    set --global _OLD_FISH_PROMPT_OVERRIDE $VIRTUAL_ENV
    function fish_prompt
        set --local last $status
        printf '(%s) ' $VIRTUAL_ENV_PROMPT
        _venvd_status $last
        _old_fish_prompt
    end
end
