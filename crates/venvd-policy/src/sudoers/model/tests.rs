use super::*;

fn user() -> UserName {
    "nova".parse().unwrap()
}

fn command(text: &str) -> SudoCommand {
    SudoCommand::try_from(text.to_owned()).unwrap()
}

fn path(text: &str) -> PlainPath {
    PlainPath::new(Path::new(text)).unwrap()
}

#[test]
fn renders_rules() {
    let bin = Path::new("/var/lib/venvd/venvs/nova/29.2.0/bin");
    let rules = [
        "nova-rootwrap /etc/nova/rootwrap.conf *",
        "nova-rootwrap-daemon /etc/nova/rootwrap.conf",
    ]
    .map(|text| {
        let command = command(text);
        Rule::new(&user(), &bin.join(command.program.as_str()), &command).unwrap()
    });
    assert_eq!(
        rules_file(&"nova".parse().unwrap(), &rules),
        with_header(
            "from the definition of nova",
            "nova ALL=(root) NOPASSWD: NOSETENV: /var/lib/venvd/venvs/nova/29.2.0/bin/nova-rootwrap \
         /etc/nova/rootwrap.conf *\n\
         nova ALL=(root) NOPASSWD: NOSETENV: /var/lib/venvd/venvs/nova/29.2.0/bin/nova-rootwrap-daemon \
         /etc/nova/rootwrap.conf\n"
        )
    );
}

#[test]
fn renders_secure_path_each_directory_once() {
    let path = SecurePath::new(
        [path("/v/2/bin"), path("/v/1/bin"), path("/bin")],
        &[path("/usr/bin"), path("/bin")],
    );
    assert_eq!(
        path_file(&user(), &path).unwrap(),
        with_header(
            "from the definitions of all apps of nova",
            "Defaults:nova secure_path=\"/v/2/bin:/v/1/bin:/bin:/usr/bin\"\n"
        )
    );
}

/// Everything that means something to sudoers(5), to a glob, to a shell or to a terminal.
const HOSTILE: &[&str] = &[
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\"",
    "'",
    "\\",
    "#",
    "!",
    ",",
    ":",
    "=",
    "*",
    "?",
    "[a]",
    "^",
    "$",
    "(",
    ")",
    "%",
    "&",
    ";",
    "|",
    "<",
    ">",
    "`",
    "{",
    "}",
    "~",
    "\u{a0}",
    "é",
    "\u{202e}",
    "\u{7f}",
    "\u{1b}[2J",
    "\\\n",
    "\nroot ALL=(ALL) ALL\n",
    "/../",
];

#[test]
fn no_hostile_argument_gets_through() {
    for hostile in HOSTILE {
        for argument in [
            (*hostile).to_owned(),
            format!("/etc/x{hostile}"),
            format!("{hostile}/x"),
            format!("/a{hostile}b"),
        ] {
            for position in 0..2 {
                let mut command = command("nova-rootwrap /etc/nova/rootwrap.conf");
                command.arguments.insert(position, argument.clone());
                let refused = Rule::new(&user(), Path::new("/v/bin/nova-rootwrap"), &command);
                assert!(refused.is_err(), "{argument:?}: {refused:?}");
            }
        }
    }
}

#[test]
fn no_hostile_path_gets_through() {
    for hostile in HOSTILE.iter().chain(&["@", "//", "/./", "/"]) {
        for text in [
            format!("/v/bin/x{hostile}"),
            format!("/v{hostile}/x"),
            format!("{hostile}/v/x"),
        ] {
            let plain = PlainPath::new(Path::new(&text));
            assert!(plain.is_err(), "{text:?}: {plain:?}");
        }
    }
    for text in ["", "relative", "/", "/a/", "./a", &format!("/{}", "a".repeat(LONGEST))] {
        assert!(PlainPath::new(Path::new(text)).is_err(), "{text:?}");
    }
}

#[test]
fn refuses_rules_that_say_more_than_they_seem() {
    let mut unpinned = command("nova-rootwrap /etc/nova/rootwrap.conf");
    unpinned.arguments.clear();
    let mut starred = unpinned.clone();
    starred.open_ended = true;
    let mut endless = command("nova-rootwrap /etc/nova/rootwrap.conf");
    endless.arguments = vec!["a".repeat(100); 10];
    for command in [&unpinned, &starred, &endless] {
        assert!(
            Rule::new(&user(), Path::new("/v/bin/nova-rootwrap"), command).is_err(),
            "{command:?}"
        );
    }
    assert!(Rule::new(&user(), Path::new("/v/bin/sudoedit"), &command("sudoedit /etc/x")).is_err());
}
