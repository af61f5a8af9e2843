//! What an administrator may do to packaged units: a bit of everything that changes how they are read.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use venvd_unit::UnitId;

/// Lines of which each service gets some in a drop-in.
const LINES: [&str; 6] = [
    "Environment=\"ADDED=two words\" UNIT=%N\nExecStartPre=-/bin/echo '%p' \\\n    # not a comment's end \\\n    \"a b\"",
    "ExecStart=\nExecStart=@/usr/bin/changed changed-%i $X ${Y} \\; 'c d' %%h",
    "ExecStop=\nExecReload=-!/bin/kill -HUP $MAINPID ; :/bin/true ${A}",
    "Environment=\nExecStartPost=+changed --bare",
    "ExecCondition=/bin/test -e %t/x\nNoSuchKey=1\nno assignment",
    "EnvironmentFile=-/etc/default/%p\nExecStopPost=!!/bin/true\n[Unit]\nExecStart=/not/here",
];

/// Lays changes of the services `ids` out below `root`, a directory that is to be laid over `/etc/systemd/system`.
///
/// # Errors
/// When something can't be written.
pub fn change(root: &Path, ids: &[UnitId]) -> Result<()> {
    write(
        &root.join("service.d/50-every.conf"),
        "[Service]\nEnvironment=EVERY=%n\n",
    )?;
    for (number, id) in ids.iter().enumerate() {
        let lines = LINES[number % LINES.len()];
        let text = format!("[Service]\n{lines}\n");
        let template = id.template();
        let packaged = template.as_ref().unwrap_or(id);
        let names = match number % 7 {
            0 => [format!("{id}.d/override.conf"), format!("{packaged}.d/10-early.conf")],
            1 => [format!("{packaged}.d/50-x.conf"), prefix(id)],
            2 => {
                // An alias, with drop-ins under its own name.
                let alias = format!("alias-{packaged}");
                link(
                    &root.join(&alias),
                    Path::new(&format!("/usr/lib/systemd/system/{packaged}")),
                )?;
                [format!("{alias}.d/override.conf"), format!("{packaged}.d/60-x.conf")]
            }
            3 => {
                // A packaged drop-in of that name, if there is one, is gone.
                link(
                    &root.join(format!("{packaged}.d/10-debian.conf")),
                    Path::new("/dev/null"),
                )?;
                [format!("{id}.d/zzz.conf"), format!("{packaged}.d/zzz.conf")]
            }
            4 => [format!("{id}.d/zz-x.conf"), format!("{packaged}.d/ignored.txt")],
            _ => continue,
        };
        for name in names {
            write(&root.join(name), &text)?;
        }
    }
    Ok(())
}

/// `a-.service.d/…` for `a-b.service`: it changes all of those at once.
fn prefix(id: &UnitId) -> String {
    match id.prefix().split_once('-') {
        Some((first, _)) => format!("{first}-.{}.d/40-prefix.conf", id.kind()),
        None => format!("{id}.d/40-prefix.conf"),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

fn link(path: &Path, target: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    symlink(target, path).with_context(|| format!("can't link {}", path.display()))
}
