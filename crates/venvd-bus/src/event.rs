//! What a record of venvd in the journal is about, as its `MESSAGE_ID`; `units/venvd.catalog` explains each.
//!
//! Never changed: whoever looks for one has it in a script. New ones by `systemd-id128 new`.

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal)+) => {
        $($(#[$doc])* pub const $name: &str = $id;)+

        #[cfg(test)]
        const ALL: &[&str] = &[$($name),+];
    };
}

events! {
    /// A job was begun.
    BEGUN = "95ac18225d5342c6b34dad8acc0f3da6"
    /// What was asked for is so, and healthy.
    DONE = "1a3a6c88024d467493a538c3eadbd659"
    /// Nothing was changed.
    REFUSED = "bb3fe34f9d3c4cab917d773a1b4ef354"
    /// It failed, and all is as before.
    ROLLED_BACK = "60c19f90952e4b239c95a9ed1b2d213f"
    /// It failed, and somebody has to look.
    FAILED = "43515c59c6964e55b6babf885b45c5de"
    /// How it ended, for one unit.
    UNIT = "92f9e14c2a07427ab7c93bb71fb2b0c1"
    /// A job of an earlier venvd is taken up.
    RESUMED = "eba744a3b4c847299d58f462bbf6aa63"
    /// A job is left open, because the machine goes down or venvd is stopped.
    LET_GO = "95697992319940aea01410207524c72a"
    /// A hook or a health command did not end well.
    COMMAND_FAILED = "eb868c4087de474eb9f6d6f086fd01cd"
    /// The rights of a venv have ended that is in force no more.
    RIGHTS_ENDED = "9a2ba6c36e914fdeade2787e742efdc4"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CATALOG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../units/venvd.catalog"));

    #[test]
    fn each_is_explained_in_the_catalog_and_no_other() {
        let explained: Vec<&str> = CATALOG.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let events: BTreeSet<&str> = ALL.iter().copied().collect();
        assert_eq!(events.len(), ALL.len());
        assert_eq!(explained.len(), events.len(), "twice the same");
        assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), events);
        for entry in CATALOG.split("\n-- ").skip(1) {
            for header in [
                "\nSubject: ",
                "\nDefined-By: venvd\n",
                "\nSupport: ",
                "\nDocumentation: man:",
            ] {
                assert_eq!(entry.matches(header).count(), 1, "{header:?} of {entry}");
            }
            let (_, text) = entry.split_once("\n\n").expect("a text");
            assert!(text.len() > 80, "{entry}");
        }
    }
}
