# Completion of venv-activate(1) for fish. It looks at directories that all may read, and runs nothing.

# Prints where on the line we are: `target`, `command APP[:TAG]` or `arguments COUNT`, with how many words come before the
# command.
function __venv_activate_place
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    set --local target
    set --local value no
    set --local count 1
    for word in $words[2..]
        if test $value = yes
            set value no
        else if contains -- $word --user --unit --cd --shell
            set value yes
        else if string match --quiet -- '-*' $word
        else if test -z "$target"
            set target $word
        else
            echo arguments $count
            return
        end
        set count (math $count + 1)
    end
    if test -n "$target"
        echo command $target
    else
        echo target
    end
end

function __venv_activate_is
    string match --quiet -- "$argv[1]*" (__venv_activate_place)
end

function __venv_activate_targets
    set --local app (string match --regex -- '^[^:]+(?=:)' (commandline --current-token))
    if test -n "$app"
        path filter --type dir -- {/var,/usr}/lib/venvd/venvs/$app/* | path basename | string replace --regex '^' $app:
    else
        path basename -- {/etc,/run,/usr/lib}/venvd/apps/*.toml | path change-extension ''
        path filter --type dir -- {/var,/usr}/lib/venvd/venvs/* | path basename
    end
end

function __venv_activate_commands
    set --local target (string split --max 1 -- : (string split ' ' -- (__venv_activate_place))[2])
    if set --query target[2]
        path filter --type file --perm exec -- {/var,/usr}/lib/venvd/venvs/$target[1]/$target[2]/bin/* | path basename
    else
        path filter --type file --perm exec -- /etc/venvd/committed/$target[1]/bin/* | path basename
    end
end

function __venv_activate_arguments
    __fish_complete_subcommand --fcs-skip=(string split ' ' -- (__venv_activate_place))[2]
end

complete --command venv-activate --no-files
complete --command venv-activate --condition '__venv_activate_is target' --arguments '(__venv_activate_targets)'
complete --command venv-activate --condition '__venv_activate_is command' --arguments '(__venv_activate_commands)'
complete --command venv-activate --condition '__venv_activate_is arguments' --arguments '(__venv_activate_arguments)'

complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option user \
    --exclusive --arguments '(__fish_complete_users)' --description 'Run it as this user'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option as-self \
    --description 'Run it as you are'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option unit --exclusive \
    --arguments '(path basename -- {/etc,/run,/usr/lib}/systemd/system/*.service /run/systemd/generator/*.service)' \
    --description 'With the settings of a unit'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option cd --exclusive \
    --arguments '(__fish_complete_directories)' --description 'Run it in this directory'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option shell --exclusive \
    --arguments 'bash zsh fish sh' --description 'The kind of shell'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --long-option print \
    --description 'Print what your own shell has to evaluate'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --short-option h --long-option help \
    --description 'Print help'
complete --command venv-activate --condition 'not __venv_activate_is arguments' --short-option V --long-option version \
    --description 'Print the version'
