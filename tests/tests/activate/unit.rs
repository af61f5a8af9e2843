//! `--unit` beside the service itself: both print what they have.

use anyhow::Result;
use venvd_tests::Os;

use crate::nova;

const UNIT: &str = r#"[Service]
Type=oneshot
User=nova
UMask=0027
WorkingDirectory=~
Environment=T_PLAIN=1 "T_QUOTED=a 'b' \"c\" \\ \x41\t." T_OVER=unit T_UNIT=%n-%p-%H-%m-%v T_PERCENT=100%%
Environment=T_GONE=1 T_KEPT=1 T_CC=a\x01b
EnvironmentFile=/etc/nova/one.env
EnvironmentFile=-/etc/nova/none.env
EnvironmentFile=/etc/nova/d/*.env
UnsetEnvironment=T_GONE T_KEPT=2
LimitNOFILE=1000:2000
LimitCORE=1M
LimitCPU=1h 30min
LimitNICE=+5
LimitRTTIME=5ms:10s
ExecStart=/bin/sh -c "/usr/local/bin/tell >/run/tell/service"
RuntimeDirectory=tell
RuntimeDirectoryPreserve=yes
"#;

/// Each line with something that a reader may take wrongly.
const FILE: &[u8] = b"# T_COMMENT=1\n; T_COMMENT=2\n  T_SPACES  =  a  b  \nT_OVER=file\nT_SINGLE='a\n\"b\" \\n'\n\
    T_DOUBLE=\"a\\\"b\\$c\\`d\\e\\\\ f\ng\"\nT_JOINED='a' \"b\" c \nT_BACK=a\\ b\\'c\\\\d\\\ne\nT_HASH=a # b\nT_EQUAL==a=b\n\
    1BAD=1\nT_BAD NAME=1\nT_CRLF=a\r\nexport T_EXPORT=1\nnothing\nT_EMPTY=\nT_CONTROL=a\x01b\nT_TAB=a\tb\nT_DOLLAR=$HOME ${T_OVER}\n\
    T_UTF8=\xc3\xa4\nT_IN=x'y'\"z\"\nT_TWO=1\nT_TWO=2\nT_OPEN='open\n";

const TELL: &str = "#!/bin/sh\nenv -0 | tr '\\n\\0' '\\001\\n' | LC_ALL=C grep -a -E '^(T_|HOME=|USER=|LOGNAME=)' | LC_ALL=C sort\n\
    umask; pwd; id; grep -E '^Max (cpu|core|open|nice|realtime timeout)' /proc/self/limits\n";

fn both_tell_the_same(os: Os) -> Result<()> {
    let machine = nova::machine(os)?;
    machine.write("/etc/systemd/system/tell.service", UNIT, 0o644);
    machine.write("/usr/local/bin/tell", TELL, 0o755);
    machine.write("/etc/nova/one.env", FILE, 0o640);
    machine.write("/etc/nova/d/a.env", "T_PATTERN=a\nT_A=1\n", 0o600);
    machine.write("/etc/nova/d/b.env", "T_PATTERN=b\n", 0o600);
    machine.write("/etc/nova/d/.hidden.env", "T_PATTERN=hidden\n", 0o600);
    machine.ok("systemctl daemon-reload; systemctl start tell.service");
    let theirs = machine.ok("cat /run/tell/service");
    let ours = machine.ok("cd /usr; venv-activate --unit=tell nova tell");
    assert!(
        theirs.contains("T_PATTERN=b") && theirs.contains("T_DOUBLE="),
        "{theirs}"
    );
    assert_eq!(ours.lines().collect::<Vec<_>>(), theirs.lines().collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_command_is_given_what_its_service_is_given_on_debian_12() -> Result<()> {
    both_tell_the_same(Os::Debian12)
}

#[test]
fn a_command_is_given_what_its_service_is_given_on_debian_13() -> Result<()> {
    both_tell_the_same(Os::Debian13)
}
