//! Any single change to a sealed tree is found.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use super::*;

/// How many changes; each seed is one, and the failing one is named.
const ROUNDS: u64 = 300;

/// SplitMix64: the same numbers in each run, so that a failure can be had again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % limit as u64).unwrap()
    }

    fn one<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.below(of.len())]
    }
}

/// Does one random thing to a venv, and says what.
fn change(host: &Host, numbers: &mut Numbers) -> String {
    let files: Vec<String> = host.manifest.files.iter().map(|file| file.path.clone()).collect();
    let directories: Vec<String> = ["bin", "lib", SITE, ".venvd"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("{SITE}/demo"), format!("{SITE}/demo-1.dist-info")])
        .collect();
    let mut all = files.clone();
    all.extend(host.manifest.links.iter().map(|link| link.path.clone()));
    let file = numbers.one(&files).to_owned();
    let any = numbers.one(&all).to_owned();
    let directory = numbers.one(&directories).to_owned();
    match numbers.below(9) {
        0 => {
            let mut content = fs::read(host.path(&file)).unwrap();
            if content.is_empty() {
                content.push(0);
            } else {
                let at = numbers.below(content.len());
                content[at] ^= 1 << numbers.below(8);
            }
            fs::write(host.path(&file), content).unwrap();
            format!("a bit of {file}")
        }
        1 => {
            let mut content = fs::read(host.path(&file)).unwrap();
            content.truncate(content.len().saturating_sub(1));
            content.extend(b"xy");
            fs::write(host.path(&file), content).unwrap();
            format!("the end of {file}")
        }
        2 => {
            fs::remove_file(host.path(&any)).unwrap();
            format!("removed {any}")
        }
        3 => {
            let path = if numbers.below(2) == 0 { &file } else { &directory };
            let mode = fs::metadata(host.path(path)).unwrap().mode() & 0o7777;
            // Not the owner's own: without it root's tests still read, others do not.
            let bit = [0o4000, 0o2000, 0o1000, 0o020, 0o002, 0o010, 0o001, 0o040][numbers.below(8)];
            chmod(&host.path(path), mode ^ bit);
            format!("mode {:04o} of {path}", mode ^ bit)
        }
        4 => {
            let path = format!("{directory}/added{}", numbers.below(10));
            match numbers.below(4) {
                0 => fs::write(host.path(&path), "").unwrap(),
                1 => fs::create_dir(host.path(&path)).unwrap(),
                2 => symlink("nowhere", host.path(&path)).unwrap(),
                _ => nix::unistd::mkfifo(&host.path(&path), nix::sys::stat::Mode::S_IRUSR).unwrap(),
            }
            format!("added {path}")
        }
        5 => {
            fs::rename(host.path(&any), host.path(&format!("{directory}/moved"))).unwrap();
            format!("moved {any} to {directory}")
        }
        6 => {
            let kept = host.layout.on_disk("/kept");
            fs::rename(host.path(&any), &kept).unwrap();
            symlink(&kept, host.path(&any)).unwrap();
            format!("{any} became a link to itself elsewhere")
        }
        7 => {
            let other = numbers.one(&all).to_owned();
            let target = host.path(&any);
            fs::remove_file(&target).unwrap();
            if other == any {
                fs::create_dir(&target).unwrap();
            } else {
                fs::hard_link(host.path(&other), &target).unwrap();
            }
            format!("{any} became {other}")
        }
        _ if is_root() => {
            std::os::unix::fs::lchown(host.path(&any), None, Some(4711)).unwrap();
            format!("the group of {any}")
        }
        _ => {
            fs::remove_dir_all(host.path(&directory)).unwrap();
            format!("removed {directory}")
        }
    }
}

#[test]
fn any_single_change_is_found() {
    for seed in 0..ROUNDS {
        let host = Host::new();
        let what = change(&host, &mut Numbers(seed));
        let report = tree(&host.path(""), &host.manifest, &Silent);
        assert!(!report.findings.is_empty(), "seed {seed}, {what}: not found");
        assert!(
            report.findings.len() <= 3,
            "seed {seed}, {what}: {:#?}",
            report.findings
        );
    }
}

#[test]
fn a_device_is_not_opened() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    fs::remove_file(host.path("pyvenv.cfg")).unwrap();
    let made = nix::sys::stat::mknod(
        &host.path("pyvenv.cfg"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRUSR,
        nix::sys::stat::makedev(1, 3),
    );
    // Not in every container.
    if made.is_err()
        || !fs::metadata(host.path("pyvenv.cfg"))
            .unwrap()
            .file_type()
            .is_char_device()
    {
        return;
    }
    assert_eq!(host.found(), ["changed pyvenv.cfg"]);
}
