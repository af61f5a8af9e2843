//! What each verb's help and man page say beyond its options.

/// A verb's part of the manual.
#[derive(Debug)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) examples: &'static [Example],
    pub(super) exit: Exit,
    pub(super) files: &'static [File],
    /// Verbs to read about next.
    pub(super) see: &'static [&'static str],
}

/// A command that can be typed as it stands, and what it is for.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) what: &'static str,
    pub(super) command: &'static str,
}

/// What a verb's exit status means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exit {
    /// It did what it was asked, or not.
    Done,
    /// It looked, and found something or nothing.
    Findings,
    /// An activation has more ways to end.
    Activation,
}

impl Exit {
    /// Returns each status with its meaning.
    pub(super) fn table(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Done => &[
                ("0", "done, or there was nothing to do"),
                (
                    "1",
                    "refused or failed; nothing is left half done, and the message says why",
                ),
                ("2", "the command line is wrong"),
            ],
            Self::Findings => &[
                ("0", "nothing is wrong"),
                (
                    "1",
                    "something is wrong, or could not be looked at; what and where is printed",
                ),
                ("2", "the command line is wrong"),
            ],
            Self::Activation => &[
                ("0", "in force and healthy"),
                ("1", "refused, nothing changed"),
                ("2", "the command line is wrong"),
                ("3", "failed, and the previous venv runs again"),
                ("4", "failed, and so did the way back, or there was none: it needs you"),
            ],
        }
    }
}

/// A file or directory that a verb reads or writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum File {
    Definitions,
    Locks,
    Venvs,
    Store,
    Staging,
    Manifest,
    Log,
    Active,
    Committed,
    Previous,
    Held,
    Frozen,
    Revoked,
    Detached,
    Left,
    Pending,
    Report,
    DropIn,
    Transactions,
    Sudoers,
    SecurePath,
    RootwrapConf,
    Adopted,
    Switch,
}

impl File {
    /// Returns its path and what it is.
    pub(super) fn says(self) -> (&'static str, &'static str) {
        match self {
            Self::Definitions => ("/etc/venvd/apps/APP.toml", "the app's definition"),
            Self::Locks => (
                "/etc/venvd/locks/APP/",
                "the locks that venvs were built from, named by tag",
            ),
            Self::Venvs => ("/var/lib/venvd/venvs/APP/TAG/", "a sealed venv"),
            Self::Store => ("/var/lib/venvd/store/", "content that venvs share"),
            Self::Staging => ("/var/lib/venvd/staging/", "work in progress, and logs of failed builds"),
            Self::Manifest => (
                "/var/lib/venvd/venvs/APP/TAG/.venvd/manifest.json",
                "what a sealed venv consists of",
            ),
            Self::Log => (
                "/var/lib/venvd/venvs/APP/TAG/.venvd/build.log",
                "what the build said; for root only",
            ),
            Self::Active => ("/etc/venvd/active/APP", "the venv that is asked for"),
            Self::Committed => ("/etc/venvd/committed/APP", "the venv that is in force"),
            Self::Previous => ("/etc/venvd/previous/APP", "the venv that was in force before"),
            Self::Held => ("/etc/venvd/held/APP/TAG", "says that a venv is held, and why"),
            Self::Frozen => ("/etc/venvd/frozen/APP", "says that an app is frozen, and why"),
            Self::Revoked => ("/etc/venvd/revoked/APP/TAG", "says that a venv is revoked, and why"),
            Self::Detached => (
                "/etc/venvd/detached/APP",
                "says that an app is detached, and which files were left",
            ),
            Self::Left => (
                "/etc/systemd/system/UNIT.d/zz-venvd-detached.conf",
                "lets a unit run from the venv without venvd",
            ),
            Self::Pending => ("/etc/venvd/pending/APP", "says that an activation is open"),
            Self::Report => (
                "/run/systemd/generator/venvd-report.json",
                "what the generator did, and what it skipped and why",
            ),
            Self::DropIn => (
                "/run/systemd/generator/UNIT.d/zz-venvd.conf",
                "what the generator changes in a unit; anew at each boot and daemon-reload",
            ),
            Self::Transactions => ("/var/lib/venvd/transactions/", "the journals of activations"),
            Self::SecurePath => (
                "/etc/sudoers.d/venvd_path-USER",
                "the secure_path of a user, merged over all of his apps",
            ),
            Self::RootwrapConf => (
                "/etc/APP/rootwrap.conf",
                "what [rootwrap] config names; only exec_dirs in it follows the venv",
            ),
            Self::Adopted => (
                "/etc/venvd/rootwrap/APP/",
                "a root-owned copy of a rootwrap configuration that others can write",
            ),
            Self::Sudoers => ("/etc/sudoers.d/venvd-APP", "the sudo rules of an app that is on"),
            Self::Switch => (
                "/etc/venvd/apps/APP.toml.d/90-enabled.toml",
                "whether the app is on, as this command left it",
            ),
        }
    }
}

const fn example(what: &'static str, command: &'static str) -> Example {
    Example { what, command }
}

/// Every verb, in the order of the command line's help.
pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "build",
        examples: &[
            example(
                "Build nova from the packages of its definition. A lock is made first, kept, and used again the next time:",
                "venvctl build nova",
            ),
            example(
                "Build a named venv from a lock with hashes that was made elsewhere:",
                "venvctl build nova:29.2.0 --lock nova-29.2.0.txt",
            ),
            example(
                "Without any network, from a directory of wheels:",
                "venvctl build nova:29.2.0 --lock nova-29.2.0.txt --offline --find-links /srv/wheels",
            ),
            example(
                "Newer versions, as far as the definition's constraints allow:",
                "venvctl build nova --upgrade",
            ),
            example(
                "Into an image:",
                "venvctl --root /srv/image build nova:29.2.0 --lock nova-29.2.0.txt",
            ),
        ],
        exit: Exit::Done,
        files: &[
            File::Definitions,
            File::Locks,
            File::Venvs,
            File::Manifest,
            File::Log,
            File::Store,
            File::Staging,
        ],
        see: &["install", "activate", "verify", "diff"],
    },
    Verb {
        name: "install",
        examples: &[
            example(
                "Take a venv over from a medium, under the name that it has:",
                "venvctl install /mnt/venvs/nova/29.2.0",
            ),
            example(
                "The same content under another tag, on the same host:",
                "venvctl install /var/lib/venvd/venvs/nova/29.2.0 nova:candidate",
            ),
            example(
                "Into an image, from the host that built it:",
                "venvctl --root /srv/image install /var/lib/venvd/venvs/nova/29.2.0",
            ),
        ],
        exit: Exit::Done,
        files: &[File::Venvs, File::Manifest, File::Store, File::Locks],
        see: &["build", "verify", "activate"],
    },
    Verb {
        name: "verify",
        examples: &[
            example("All venvs of this host:", "venvctl verify"),
            example("One of them:", "venvctl verify nova:29.2.0"),
            example(
                "Also whether the bytecode is what its sources compile to:",
                "venvctl verify --deep nova:29.2.0",
            ),
            example(
                "For a program, with a code for each finding:",
                "venvctl verify --json nova",
            ),
        ],
        exit: Exit::Findings,
        files: &[File::Venvs, File::Manifest, File::Store],
        see: &["repair", "doctor"],
    },
    Verb {
        name: "repair",
        examples: &[
            example(
                "From the store, from another venv, or else by building its own lock again:",
                "venvctl repair nova:29.2.0",
            ),
            example(
                "From a sound copy:",
                "venvctl repair nova:29.2.0 --from /mnt/venvs/nova/29.2.0",
            ),
        ],
        exit: Exit::Done,
        files: &[File::Venvs, File::Manifest, File::Store],
        see: &["verify"],
    },
    Verb {
        name: "diff",
        examples: &[
            example("What an upgrade would change:", "venvctl diff nova:29.2.0 nova:29.2.1"),
            example("For a program:", "venvctl diff --json nova:29.2.0 nova:29.2.1"),
        ],
        exit: Exit::Done,
        files: &[File::Manifest],
        see: &["list", "activate"],
    },
    Verb {
        name: "gc",
        examples: &[
            example("What would go, and why all others stay:", "venvctl gc --dry-run"),
            example("Collect:", "venvctl gc"),
            example("Of one app, all that nothing needs:", "venvctl gc nova --keep 0"),
        ],
        exit: Exit::Done,
        files: &[
            File::Venvs,
            File::Store,
            File::Staging,
            File::Active,
            File::Committed,
            File::Previous,
            File::Held,
        ],
        see: &["hold", "list", "remove"],
    },
    Verb {
        name: "hold",
        examples: &[example(
            "Keep what is known to work:",
            "venvctl hold nova:29.2.0 --reason 'until the cells are migrated'",
        )],
        exit: Exit::Done,
        files: &[File::Held],
        see: &["unhold", "gc"],
    },
    Verb {
        name: "unhold",
        examples: &[example("It is not needed any more:", "venvctl unhold nova:29.2.0")],
        exit: Exit::Done,
        files: &[File::Held],
        see: &["hold", "gc"],
    },
    Verb {
        name: "doctor",
        examples: &[
            example("Everything:", "venvctl doctor"),
            example("One app, for a monitoring system:", "venvctl doctor --json nova"),
        ],
        exit: Exit::Findings,
        files: &[File::Definitions, File::Venvs, File::Committed],
        see: &["verify", "status"],
    },
    Verb {
        name: "list",
        examples: &[
            example("All venvs, with what they really take on the disk:", "venvctl list"),
            example("One app's, for a program:", "venvctl list --json nova"),
        ],
        exit: Exit::Done,
        files: &[File::Venvs],
        see: &["status", "gc", "diff"],
    },
    Verb {
        name: "activate",
        examples: &[
            example(
                "Upgrade, or go back, to a certain venv:",
                "venvctl activate nova:29.2.0",
            ),
            example(
                "Two apps together, or neither:",
                "venvctl activate nova:29.2.0 placement:11.0.1",
            ),
            example(
                "What it would do, step by step, with the jobs of systemd and all that goes down with them:",
                "venvctl activate --dry-run nova:29.2.0",
            ),
            example(
                "With nothing restarted now, but with the next start of each unit:",
                "venvctl activate --at-next-restart nova:29.2.0",
            ),
            example(
                "After a fault in the venv before, whose sudo rights must end at once:",
                "venvctl activate --revoke nova:29.2.1",
            ),
            example(
                "In an image, where nothing runs: both links move at once:",
                "venvctl --root /srv/image activate nova:29.2.0",
            ),
        ],
        exit: Exit::Activation,
        files: &[File::Active, File::Committed, File::Previous, File::Transactions],
        see: &["rollback", "enable", "status"],
    },
    Verb {
        name: "log",
        examples: &[
            example("The last activations of nova:", "venvctl log nova"),
            example("The last three of all apps, for a program:", "venvctl log -n 3 --json"),
        ],
        exit: Exit::Done,
        files: &[],
        see: &["status", "rollback"],
    },
    Verb {
        name: "freeze",
        examples: &[example(
            "While the cells are being moved:",
            "venvctl freeze nova --reason 'until the cells are moved'",
        )],
        exit: Exit::Done,
        files: &[File::Frozen],
        see: &["thaw", "activate", "hold"],
    },
    Verb {
        name: "thaw",
        examples: &[example("Let nova be activated again:", "venvctl thaw nova")],
        exit: Exit::Done,
        files: &[File::Frozen],
        see: &["freeze", "activate"],
    },
    Verb {
        name: "revoke",
        examples: &[
            example(
                "A fault became known in a venv that is not in force:",
                "venvctl revoke nova:29.2.0 'CVE-2026-0815'",
            ),
            example(
                "In the one that is in force, and there is no other yet: its sudo rights end at once:",
                "venvctl revoke --force nova:29.2.0 'CVE-2026-0815'",
            ),
        ],
        exit: Exit::Done,
        files: &[File::Revoked, File::Sudoers, File::RootwrapConf],
        see: &["unrevoke", "activate", "status"],
    },
    Verb {
        name: "detach",
        examples: &[example(
            "Let nova's services run on without venvd, also after a reboot:",
            "venvctl detach nova",
        )],
        exit: Exit::Done,
        files: &[File::Detached, File::Left],
        see: &["attach", "disable"],
    },
    Verb {
        name: "attach",
        examples: &[example("Take it back:", "venvctl attach nova")],
        exit: Exit::Activation,
        files: &[File::Detached, File::Left, File::Switch],
        see: &["detach", "enable"],
    },
    Verb {
        name: "unrevoke",
        examples: &[example("It was a false alarm:", "venvctl unrevoke nova:29.2.0")],
        exit: Exit::Done,
        files: &[File::Revoked],
        see: &["revoke", "activate"],
    },
    Verb {
        name: "rollback",
        examples: &[example("Take the last activation back:", "venvctl rollback nova")],
        exit: Exit::Activation,
        files: &[File::Previous, File::Active, File::Committed, File::Transactions],
        see: &["activate", "status"],
    },
    Verb {
        name: "enable",
        examples: &[example(
            "Let nova's services run from the venv in force:",
            "venvctl enable nova",
        )],
        exit: Exit::Activation,
        files: &[File::Switch, File::Sudoers, File::Committed],
        see: &["disable", "activate", "status"],
    },
    Verb {
        name: "disable",
        examples: &[example(
            "Back to the distribution's units, sudoers and rootwrap.conf:",
            "venvctl disable nova",
        )],
        exit: Exit::Activation,
        files: &[File::Switch, File::Sudoers],
        see: &["enable", "status"],
    },
    Verb {
        name: "status",
        examples: &[
            example("All apps:", "venvctl status"),
            example("One app and each of its processes:", "venvctl status nova"),
            example(
                "What an image's first boot will find:",
                "venvctl --root /srv/image status",
            ),
            example("All there is to know, for a program:", "venvctl status --json nova"),
        ],
        exit: Exit::Done,
        files: &[
            File::Definitions,
            File::Active,
            File::Committed,
            File::Previous,
            File::Pending,
            File::Report,
        ],
        see: &["cat", "list", "doctor"],
    },
    Verb {
        name: "cat",
        examples: &[
            example(
                "One unit, and which of its lines count:",
                "venvctl cat nova-api.service",
            ),
            example("All units of an app:", "venvctl cat nova"),
            example("For a program:", "venvctl cat --json nova-api.service"),
        ],
        exit: Exit::Done,
        files: &[File::DropIn, File::Definitions],
        see: &["status"],
    },
    Verb {
        name: "policy",
        examples: &[
            example("What is to hold, and whether it does:", "venvctl policy show nova"),
            example("What a changed definition would change:", "venvctl policy diff nova"),
            example(
                "Is anything wrong? For a monitoring system:",
                "venvctl policy check --json",
            ),
            example("Write it:", "venvctl policy apply nova"),
            example(
                "Although somebody edited the file; a copy is kept:",
                "venvctl policy apply --force nova",
            ),
            example(
                "/etc/nova belongs to the service's user, so that its rules are refused:",
                "venvctl policy adopt nova --dry-run",
            ),
        ],
        exit: Exit::Findings,
        files: &[
            File::Definitions,
            File::Committed,
            File::Sudoers,
            File::SecurePath,
            File::RootwrapConf,
            File::Adopted,
        ],
        see: &["activate", "status", "doctor"],
    },
    Verb {
        name: "remove",
        examples: &[example(
            "One venv, now, whatever `keep` says:",
            "venvctl remove nova:29.1.0",
        )],
        exit: Exit::Done,
        files: &[File::Venvs],
        see: &["gc", "list"],
    },
];
