//! The command lines of a unit, with the programs of the venv in them.

use venvd_app::definition::UnitKind;
use venvd_unit::command::{self, Command};
use venvd_unit::effective::{EXEC_KEYS, Effective};
use venvd_unit::splice::{self, PlainPath, Refusal, check_line, program_name};

use super::member::{Member, Skip};

const START: &str = "ExecStart";

/// The keys by which a unit is stopped. They are read anew by each daemon-reload, also for what runs since before.
pub(crate) const STOP: [&str; 2] = ["ExecStop", "ExecStopPost"];

/// An Exec key and all of its lines: what stands behind a reset.
pub(crate) type List = (&'static str, Vec<String>);

/// Returns the lists of an existing unit that change, none when only variables are set.
///
/// # Errors
/// When one line of them can't be changed: then none is, since old code would stop what new code started.
pub(crate) fn lists(unit: &Effective, member: &Member<'_>) -> Result<Vec<List>, Skip> {
    match &member.unit.kind {
        UnitKind::Spliced(named) => {
            let main = main_program(unit);
            let programs: Vec<&str> = match &main {
                _ if !named.is_empty() => named.iter().map(|program| program.as_str()).collect(),
                Some(main) => vec![main],
                None => return Err(Skip::NoMainProgram),
            };
            let lists = spliced(unit, member, (&programs, &EXEC_KEYS))?;
            if lists.is_empty() {
                return Err(Skip::NoProgram(programs.join(", ")));
            }
            Ok(lists)
        }
        UnitKind::Exec(line) => {
            let parsed = command::parse(line);
            let programs = parsed.commands.iter().map(|command| command.program.as_str());
            let programs: Vec<&str> = programs.filter(|program| is_bare(program)).collect();
            let own = (START, vec![own_line(line, member)?]);
            // What the rest of the unit says of the same program is about the one that runs now.
            let rest = EXEC_KEYS.into_iter().filter(|key| *key != START).collect::<Vec<_>>();
            let mut lists = spliced(unit, member, (&programs, &rest))?;
            lists.push(own);
            lists.sort_by_key(|(key, _)| EXEC_KEYS.iter().position(|other| other == key));
            Ok(lists)
        }
        UnitKind::Environment | UnitKind::Whole(_) => Ok(Vec::new()),
    }
}

/// Returns whether systemd finds a program that stops a unit in the venv, where it looks first: `ExecSearchPath=`.
pub(crate) fn finds_stop(unit: &Effective, member: &Member<'_>) -> bool {
    let stops = STOP.iter().flat_map(|key| unit.commands(key));
    let mut commands = stops.flat_map(|(_, line)| &line.commands);
    commands.any(|command| is_bare(&command.program) && member.has(&command.program).is_ok())
}

/// Returns whether a line of a definition may run what is in the venv: by a name, or by a path that is made of it.
pub(crate) fn is_of_venv(line: &str) -> bool {
    let parsed = command::parse(line);
    parsed
        .commands
        .iter()
        .any(|command| is_bare(&command.program) || command.program.contains(['{', '%']))
}

/// Returns what of a unit whose `ExecStart=` the definition gives may not go with that.
pub(crate) fn leftovers(unit: &Effective, lists: &[List]) -> Vec<String> {
    let mut said = Vec::new();
    let started = unit.commands(START);
    let started: Vec<&str> = started
        .iter()
        .flat_map(|(_, line)| &line.commands)
        .map(|command| command.program.as_str())
        .collect();
    for key in EXEC_KEYS {
        if lists.iter().any(|(changed, _)| *changed == key) {
            continue;
        }
        for (entry, line) in unit.commands(key) {
            let old = line
                .commands
                .iter()
                .find(|command| started.contains(&command.program.as_str()));
            if let Some(command) = old {
                said.push(format!(
                    "{}:{}: {key}= stays, and runs {}, which is not what ExecStart= runs now",
                    entry.path.display(),
                    entry.assignment.line,
                    command.program
                ));
            }
        }
    }
    if unit.service_type() == "forking" {
        said.push("it stays Type=forking: what `exec` starts must go into the background by itself".to_owned());
    }
    said
}

/// Returns a definition's `exec` as it stands in a unit: `{venv}` replaced, bare names with their path.
///
/// # Errors
/// When systemd would not accept it.
pub(crate) fn own_line(line: &str, member: &Member<'_>) -> Result<String, Skip> {
    let expanded = member.expand(line);
    let parsed = command::parse(&expanded);
    if let Some(fault) = parsed.fault {
        // A line of a definition has no place in a file here; it is one line, so it is shown as it is.
        let (before, caret) = (fault.at.min(expanded.len()), fault.end.saturating_sub(fault.at).max(1));
        let shown = format!(
            "{fault}\n      | {expanded}\n      | {}{}",
            " ".repeat(before),
            "^".repeat(caret)
        );
        return Err(Skip::Exec(shown));
    }
    if parsed.commands.is_empty() {
        return Err(Skip::Exec("there is no command in it".to_owned()));
    }
    for command in &parsed.commands {
        if is_bare(&command.program) {
            member.has(&command.program)?;
        }
    }
    let replace = |command: &Command| {
        let bare = is_bare(&command.program);
        bare.then(|| PlainPath::new(&format!("{}/bin/{}", member.directory(), command.program)))
            .transpose()
            .ok()
            .flatten()
    };
    let refused = |refusal: Refusal| Skip::Exec(refusal.to_string());
    check_line(&expanded).map_err(refused)?;
    Ok(splice::splice(&expanded, &parsed, replace)
        .map_err(refused)?
        .unwrap_or(expanded))
}

/// Returns whether a program of a definition's line is one of the venv.
fn is_bare(program: &str) -> bool {
    !program.contains(['/', '%'])
}

/// Returns those of the lists `keys` in which a program is replaced, each with all of its lines.
fn spliced(
    unit: &Effective,
    member: &Member<'_>,
    (programs, keys): (&[&str], &[&'static str]),
) -> Result<Vec<List>, Skip> {
    let path = |command: &Command| {
        let name = program_name(&command.program).filter(|name| programs.contains(name))?;
        PlainPath::new(&format!("{}/bin/{name}", member.directory())).ok()
    };
    let mut lists = Vec::new();
    for key in keys {
        let mut values = Vec::new();
        let mut changed = false;
        let commands = unit.commands(key);
        for (entry, line) in &commands {
            let refused = |refusal: Refusal| Skip::Line(entry.trouble(refusal.span(), refusal.to_string()));
            // Written again, such a line would end our drop-in as it ended the file it stands in.
            if let Some(fault) = line.fault.filter(|fault| fault.fatal) {
                return Err(refused(Refusal::Fault(fault)));
            }
            let named = line
                .commands
                .iter()
                .filter_map(|command| program_name(&command.program));
            for name in named.filter(|name| programs.contains(name)) {
                member.has(name)?;
            }
            let new = splice::splice(entry.value(), line, path).map_err(refused)?;
            changed |= new.is_some();
            values.push(new.unwrap_or_else(|| entry.value().to_owned()));
        }
        if changed {
            for ((entry, _), value) in commands.iter().zip(&values) {
                check_line(value)
                    .map_err(|refusal| Skip::Line(entry.trouble(0..entry.value().len(), refusal.to_string())))?;
            }
            lists.push((*key, values));
        }
    }
    Ok(lists)
}

/// Returns the name of the unit's main program, if it is where programs are.
fn main_program(unit: &Effective) -> Option<String> {
    let commands = unit.commands(START);
    let (_, line) = commands.first()?;
    program_name(&line.commands.first()?.program).map(str::to_owned)
}
