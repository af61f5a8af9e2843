//! Which of the caller's variables reach the steps that talk to the network.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// How to reach an index, through which proxy, trusting whom. Nothing that says what to install, or where to.
const PASSED: [&str; 47] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SSL_CLIENT_CERT",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_KEYRING_PROVIDER",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
    "PIP_USE_FEATURE",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_CONNECT_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_EXCLUDE_NEWER",
    "UV_REQUEST_TIMEOUT",
    "NETRC",
];

/// Credentials of a named index: `UV_INDEX_<NAME>_USERNAME`, `…_PASSWORD`.
const PASSED_PREFIX: &str = "UV_INDEX_";

/// How often pip tries again, unless the caller says: its own five times, for every distribution, keep an operator
/// waiting for minutes when the network is gone.
const RETRIES: (&str, &str) = ("PIP_RETRIES", "2");

/// What pip and uv call the same: one of them may make the lock, and the other fetch what it names.
const SAME: [(&str, &str); 4] = [
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
    ("UV_INDEX_URL", "PIP_INDEX_URL"),
    ("PIP_CERT", "SSL_CERT_FILE"),
];

/// Returns those of some variables that may be passed on.
pub(super) fn passed(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut passed: Vec<_> = variables.filter(|(name, _)| is_passed(name)).collect();
    for (given, same) in SAME {
        let value = |wanted: &str| {
            passed
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
        };
        // uv's own older name goes on meaning the same to uv.
        let known = value(same).is_some() || same == "UV_DEFAULT_INDEX" && value("UV_INDEX_URL").is_some();
        if let (Some(value), false) = (value(given), known) {
            passed.push((same.into(), value));
        }
    }
    if passed.iter().all(|(name, _)| name != RETRIES.0) {
        passed.push((RETRIES.0.into(), RETRIES.1.into()));
    }
    passed
}

fn is_passed(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| PASSED.contains(&name) || name.starts_with(PASSED_PREFIX))
}

/// Returns the files and directories that variables name: certificates, configuration, places with wheels.
pub(super) fn paths(variables: &[(OsString, OsString)]) -> BTreeSet<PathBuf> {
    let values = variables.iter().filter_map(|(_, value)| value.to_str());
    let words = values.flat_map(|value| value.split([' ', ',', '\n']));
    words
        .map(|word| PathBuf::from(word.strip_prefix("file://").unwrap_or(word)))
        .filter(|path| path.is_absolute() && path.exists())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_an_index_is_passed() {
        let names = [
            "HTTPS_PROXY",
            "PIP_INDEX_URL",
            "UV_INDEX_CORP_PASSWORD",
            "PIP_TARGET",
            "LD_PRELOAD",
            "PYTHONPATH",
            "PATH",
        ];
        let given = names.iter().map(|name| (OsString::from(name), OsString::from("x")));
        let passed: Vec<_> = passed(given).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            passed,
            [
                "HTTPS_PROXY",
                "PIP_INDEX_URL",
                "UV_INDEX_CORP_PASSWORD",
                "UV_DEFAULT_INDEX",
                "PIP_RETRIES"
            ]
        );
    }

    #[test]
    fn pip_and_uv_ask_the_same_index() {
        for (given, expected) in [
            (vec![("UV_INDEX_URL", "u")], vec![("PIP_INDEX_URL", "u")]),
            (vec![("UV_DEFAULT_INDEX", "u")], vec![("PIP_INDEX_URL", "u")]),
            (vec![("PIP_INDEX_URL", "p"), ("UV_INDEX_URL", "u")], vec![]),
            (
                vec![("PIP_CERT", "/c"), ("PIP_RETRIES", "1")],
                vec![("SSL_CERT_FILE", "/c")],
            ),
        ] {
            let variables = given.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let mut passed = passed(variables);
            passed.retain(|(name, _)| name != "PIP_RETRIES" && given.iter().all(|(given, _)| name != given));
            let expected: Vec<(OsString, OsString)> = expected
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            assert_eq!(passed, expected, "{given:?}");
        }
    }

    #[test]
    fn what_variables_name_is_found() {
        let named = |value: &str| paths(&[("X".into(), value.into())]);
        let both = ["/etc".into(), "/usr".into()].into();
        assert_eq!(named("file:///etc /usr,/nonexistent https://host/etc etc"), both);
        assert_eq!(named("http://proxy:3128"), BTreeSet::new());
    }

    #[test]
    fn the_caller_decides_how_often_to_try_again() {
        let given = ("PIP_RETRIES".into(), "7".into());
        assert_eq!(super::passed([given].into_iter()), [("PIP_RETRIES".into(), "7".into())]);
    }
}
