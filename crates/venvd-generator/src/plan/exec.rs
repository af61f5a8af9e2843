//! The command lines of a unit, with the programs of the venv in them.

use venvd_app::definition::UnitKind;
use venvd_unit::command::{self, Command};
use venvd_unit::effective::{EXEC_KEYS, Effective, Entry};
use venvd_unit::splice::{self, PlainPath, Refusal, check_line, program_name};

use super::member::{Member, Skip};

/// An Exec key and all of its lines: what stands behind a reset.
pub(crate) type List = (&'static str, Vec<String>);

/// Returns the lists of an existing unit that change, none when only variables are set.
///
/// # Errors
/// When one line of them can't be changed: then none is, since old code would stop what new code started.
pub(crate) fn lists(unit: &Effective, member: &Member<'_>) -> Result<Vec<List>, Skip> {
    match &member.unit.kind {
        UnitKind::Spliced(programs) => {
            let named: Vec<&str> = programs.iter().map(|program| program.as_str()).collect();
            spliced(unit, member, &named)
        }
        UnitKind::Exec(line) => Ok(vec![("ExecStart", vec![own_line(line, member)?])]),
        UnitKind::Environment | UnitKind::Whole(_) => Ok(Vec::new()),
    }
}

/// Returns a definition's `exec` as it stands in a unit: `{venv}` replaced, bare names with their path.
///
/// # Errors
/// When systemd would not accept it.
pub(crate) fn own_line(line: &str, member: &Member<'_>) -> Result<String, Skip> {
    let expanded = member.expand(line);
    let parsed = command::parse(&expanded);
    if let Some(fault) = parsed.fault {
        return Err(Skip::Exec(fault.to_string()));
    }
    if parsed.commands.is_empty() {
        return Err(Skip::Exec("there is no command in it".to_owned()));
    }
    let bin = member.bin();
    for command in &parsed.commands {
        if is_bare(&command.program) {
            member.has(&command.program)?;
        }
    }
    let replace = |command: &Command| {
        let bare = is_bare(&command.program);
        bare.then(|| PlainPath::new(&format!("{bin}/{}", command.program)))
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

fn spliced(unit: &Effective, member: &Member<'_>, named: &[&str]) -> Result<Vec<List>, Skip> {
    let main = main_program(unit);
    let programs = match (named, &main) {
        ([], None) => return Err(Skip::NoMainProgram),
        ([], Some(main)) => vec![main.as_str()],
        (named, _) => named.to_vec(),
    };
    let bin = member.bin();
    let path = |command: &Command| {
        let name = program_name(&command.program).filter(|name| programs.contains(name))?;
        PlainPath::new(&format!("{bin}/{name}")).ok()
    };
    let mut lists = Vec::new();
    for key in EXEC_KEYS {
        let mut values = Vec::new();
        let mut changed = false;
        for (entry, line) in unit.commands(key) {
            let refused = |refusal| Skip::Line {
                place: place(entry),
                refusal,
            };
            // Written again, such a line would end our drop-in as it ended the file it stands in.
            if let Some(fault) = line.fault.filter(|fault| fault.fatal) {
                return Err(refused(Refusal::Fault(fault)));
            }
            for name in line
                .commands
                .iter()
                .filter_map(|command| program_name(&command.program))
            {
                if programs.contains(&name) {
                    member.has(name)?;
                }
            }
            let new = splice::splice(entry.value(), line, path).map_err(refused)?;
            changed |= new.is_some();
            values.push(new.unwrap_or_else(|| entry.value().to_owned()));
        }
        if changed {
            for ((entry, _), value) in unit.commands(key).iter().zip(&values) {
                check_line(value).map_err(|refusal| Skip::Line {
                    place: place(entry),
                    refusal,
                })?;
            }
            lists.push((key, values));
        }
    }
    if lists.is_empty() {
        Err(Skip::NoProgram(programs.join(", ")))
    } else {
        Ok(lists)
    }
}

/// Returns the name of the unit's main program, if it is where programs are.
fn main_program(unit: &Effective) -> Option<String> {
    let commands = unit.commands("ExecStart");
    let (_, line) = commands.first()?;
    program_name(&line.commands.first()?.program).map(str::to_owned)
}

fn place(entry: &Entry) -> String {
    format!("{}:{}", entry.path.display(), entry.assignment.line)
}
