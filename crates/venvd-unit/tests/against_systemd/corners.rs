//! Texts that chance does not find: limits, ends of files, bytes that are no text.

use std::fs;

use crate::oracle::systemds;
use crate::ours;

/// `LONG_LINE_MAX`
const LIMIT: usize = 1024 * 1024;

/// Returns the texts, each the rest of a unit that can be loaded without it.
fn texts() -> Vec<Vec<u8>> {
    let after = b"\nExecStart=/no/after\n";
    let line = |length: usize| {
        let key = b"X-A=";
        [key.as_slice(), &vec![b'x'; length - key.len()], after].concat()
    };
    let joined = |length: usize| {
        let first = [b"X-A=".as_slice(), &[b'x'; 1000], b"\\\n"].concat();
        // The backslash becomes a blank, the newline nothing.
        let rest = vec![b'x'; length + 1 - first.len()];
        [first.as_slice(), &rest, after].concat()
    };
    let comment = |length: usize| [vec![b'#'; length].as_slice(), after].concat();
    let name = |length: usize| format!("ExecStart=/no/{}\n", "n".repeat(length)).into_bytes();
    let path = |length: usize| format!("ExecStart=/no{}\n", "/n".repeat(length / 2)).into_bytes();
    let mut all = vec![
        line(LIMIT - 1),
        line(LIMIT),
        line(LIMIT + 1),
        joined(LIMIT),
        joined(LIMIT + 1),
        comment(LIMIT - 1),
        comment(LIMIT),
        name(255),
        name(256),
        path(4088),
        path(4090),
        path(4092),
    ];
    let texts: [&[u8]; 30] = [
        b"ExecStart=/no/a \\",
        b"ExecStart=/no/a \\\n",
        b"ExecStart=/no/a \\\n\\\n\\",
        b"ExecStart=/no/a \\\\\nExecStart=/no/b",
        b"ExecStart=/no/a \\\\\\\nExecStart=/no/b",
        b"ExecStart=/no/a\\\n# c\\\n; d\n  b\n",
        b"# c \\\nExecStart=/no/a\n",
        b"\xef\xbb\xbf# c\nExecStart=/no/a\n",
        b"\xef\xbb\xbfExecStart=/no/a\nExecStart=/no/b\n",
        b"ExecStart=/no/a\n\xef\xbb\xbfExecStart=/no/b\n",
        b"\xef\xbb\xbfX-A=1\n\xef\xbb\xbfExecStart=/no/b\n",
        b"X-A=\xc0\x80\nExecStart=/no/a\n",
        b"X-A=\xed\xa0\x80\nExecStart=/no/a\n",
        b"X-A=\xf4\x90\x80\x80\nExecStart=/no/a\n",
        b"X-A=\xef\xb7\x90\nExecStart=/no/a\n",
        b"[Unit]\nnothing\n[Service]\n[]\nExecStart=/no/x\n[Service]\nExecStart=/no/a\n",
        b"[Service ]\nExecStart=/no/x\n",
        b" [Service]  \nExecStart=/no/x\n",
        b"[Ser\x7fvice]\nExecStart=/no/x\n",
        b"[Ser\xc2\x85vice]\nExecStart=/no/x\n",
        b"ExecStart = /no/a\n = /no/b\nExec Start=/no/c\nexecstart=/no/d\n",
        b"ExecStart=/no/a\x0b b\n\x0b# ExecStart=/no/c\n",
        b"ExecStart=\"/no/a\nExecStart=/no/b 'c\nExecStart=/no/d\n",
        b"ExecStart=-/no/a 'c\nExecStart=/no/d\n",
        b"ExecStart=/no/a ; /no/b ; 'c\nExecStart=/no/d\n",
        b"ExecStart=/no/a ; el/b\nExecStart=/no/d\n",
        b"ExecStart=\\x2f\\156\\157\\u002fa \\q \\x \\u12 \\8\n",
        b"ExecStart=';' /no/a\nExecStart=\\; /no/b\n",
        b"ExecStart=/no/a ';' \\; \"\\;\" \\;x ;x x;\n",
        b"WorkingDirectory=-el\nUser=0\nGroup=n%%\nSupplementaryGroups=a b\nExecStart=/no/a\n",
    ];
    all.extend(texts.map(<[u8]>::to_vec));
    all
}

#[test]
fn both_read_the_same() {
    let root = tempfile::tempdir().unwrap();
    let directory = fs::canonicalize(root.path()).unwrap();
    let texts = texts();
    let names: Vec<_> = (0..texts.len()).map(|number| format!("c{number}.service")).collect();
    for (name, text) in names.iter().zip(&texts) {
        let unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=/no/stop\n";
        fs::write(directory.join(name), unit).unwrap();
        // In a drop-in what stands before a fault can be seen too.
        let dropin = directory.join(format!("{name}.d/x.conf"));
        fs::create_dir(dropin.parent().unwrap()).unwrap();
        fs::write(
            dropin,
            [b"[Service]\nExecReload=/no/before\n", text.as_slice()].concat(),
        )
        .unwrap();
    }
    let directories = [directory];
    let files = ours::scan(&directories);
    for systemd in systemds() {
        let theirs = systemd.read(&directories, &names);
        for (name, text) in names.iter().zip(&texts) {
            let shown = text.get(..200).unwrap_or(text).escape_ascii();
            assert_eq!(
                Some(&ours::read(&files, name)),
                theirs.get(name),
                "{} and {shown}",
                systemd.version
            );
        }
    }
}
