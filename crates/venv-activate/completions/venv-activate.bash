# Completion of venv-activate(1) for bash. It looks at directories that all may read, and runs nothing.

# Prints the last components of those of the paths that exist, without a suffix.
_venv_activate_names() {
    local suffix=$1 path
    shift
    for path; do
        [[ -e $path ]] || continue
        path=${path%/}
        path=${path##*/}
        printf '%s\n' "${path%"$suffix"}"
    done
}

# Prints the commands of the venv APP[:TAG].
_venv_activate_commands() {
    local app=${1%%:*} tag=${1#*:} program
    local -a programs=("/etc/venvd/committed/$app/bin"/*)
    [[ $1 == *:* ]] && programs=({/var,/usr}/lib/venvd/venvs/"$app/$tag"/bin/*)
    for program in "${programs[@]}"; do
        [[ -f $program && -x $program ]] && printf '%s\n' "${program##*/}"
    done
}

# Completes a value: WORD, CHOICE...
_venv_activate_offer() {
    local word=$1
    shift
    mapfile -t COMPREPLY < <(compgen -W "$*" -- "$word")
}

_venv_activate() {
    # Not COMP_WORDS, which a colon parts.
    local line=${COMP_LINE:0:COMP_POINT} option= target= word
    local -a words
    read -ra words <<<"$line"
    local current=${words[-1]}
    if [[ $line == *[[:blank:]] ]]; then
        current=
    else
        unset 'words[-1]'
    fi
    COMPREPLY=()

    local -i at
    for ((at = 1; at < ${#words[@]}; at++)); do
        word=${words[at]}
        if [[ -n $option ]]; then
            option=
        elif [[ $word == --@(user|unit|cd|shell) ]]; then
            option=$word
        elif [[ $word == -* ]]; then
            continue
        elif [[ -z $target ]]; then
            target=$word
        else
            # From here on it is the command's own.
            while [[ ${COMP_WORDS[at]} != "$word" ]]; do
                at+=1
            done
            declare -F _command_offset >/dev/null && _command_offset "$at"
            return
        fi
    done
    if [[ -z $option && $current == --@(user|unit|cd|shell)=* ]]; then
        option=${current%%=*}
        current=${current#*=}
    fi

    case $option in
        --user) mapfile -t COMPREPLY < <(compgen -u -- "$current") ;;
        --shell) _venv_activate_offer "$current" bash zsh fish sh ;;
        --cd)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            ;;
        --unit)
            _venv_activate_offer "$current" "$(_venv_activate_names '' \
                {/etc,/run,/usr/lib}/systemd/system/*.service /run/systemd/generator/*.service)"
            ;;
        *)
            if [[ $current == -* ]]; then
                _venv_activate_offer "$current" --user --as-self --unit --cd --shell --print --help --version
            elif [[ -n $target ]]; then
                _venv_activate_offer "$current" "$(_venv_activate_commands "$target")"
                [[ ${#COMPREPLY[@]} -gt 0 ]] || mapfile -t COMPREPLY < <(compgen -c -- "$current")
            elif [[ $current == *:* ]]; then
                _venv_activate_offer "${current#*:}" \
                    "$(_venv_activate_names '' {/var,/usr}/lib/venvd/venvs/"${current%%:*}"/*/)"
                # Without a colon to part them, readline replaces the whole word.
                [[ $COMP_WORDBREAKS == *:* ]] || COMPREPLY=("${COMPREPLY[@]/#/${current%%:*}:}")
            else
                _venv_activate_offer "$current" "$(_venv_activate_names .toml \
                    {/etc,/run,/usr/lib}/venvd/apps/*.toml {/var,/usr}/lib/venvd/venvs/*/)"
            fi
            ;;
    esac
}

complete -o bashdefault -o default -F _venv_activate venv-activate
