//! The head of a file of ours, by which an administrator's edit is noticed.
//!
//! Below a line that says what it is stands the digest of all other lines: `grep -v '^# sha256' FILE | sha256sum`.

use sha2::{Digest, Sha256};

const MANAGED: &str = "# Managed by venvd ";
const DIGEST: &str = "# sha256 of all other lines: ";

/// Returns a whole file: what it is, the digest, and the body.
pub(crate) fn with_header(of: &str, body: &str) -> String {
    let title = format!("{MANAGED}{of}; an edited file is kept until --force\n");
    let digest = digest_of(&[&title, body]);
    format!("{title}{DIGEST}{digest}\n{body}")
}

/// Returns whether a file is not, byte for byte, one that venvd wrote.
pub(crate) fn is_edited(file: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(file) else {
        return true;
    };
    let parts = text
        .strip_prefix(MANAGED)
        .and_then(|_| text.split_once('\n'))
        .and_then(|(title, rest)| Some((title, rest.strip_prefix(DIGEST)?.split_once('\n')?)));
    let Some((title, (digest, body))) = parts else {
        return true;
    };
    digest_of(&[title, "\n", body]) != digest
}

fn digest_of(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let bytes = hasher.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_each_changed_byte() {
        let file = with_header("from the definition of nova", "nova ALL=(root) /bin/x y\n");
        assert!(!is_edited(file.as_bytes()), "{file}");
        for index in 0..file.len() {
            let mut edited = file.clone().into_bytes();
            edited[index] ^= 1;
            assert!(is_edited(&edited), "byte {index}");
            assert!(is_edited(&file.as_bytes()[..index]), "cut at {index}");
        }
        for (from, to) in [("\n", "\r\n"), ("# Managed", "\n# Managed"), ("x y\n", "x y\n# mine\n")] {
            assert!(is_edited(file.replacen(from, to, 1).as_bytes()), "{to:?}");
        }
        assert!(is_edited(b"") && is_edited(b"\xff"));
    }
}
