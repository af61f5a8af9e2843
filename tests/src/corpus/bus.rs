//! What services run, as systemd says on the bus: there the words of a command are one by one, while `systemctl show`
//! joins them by blanks.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use venvd_unit::effective::EXEC_KEYS;
use zbus::{Connection, Proxy, proxy::CacheProperties};

use super::reading::{Command, Service};

/// `a(sasasttttuii)`, `ExecStartEx` and its like: the program, its words, its flags, and how it ran.
type Exec = (String, Vec<String>, Vec<String>, u64, u64, u64, u64, u32, i32, i32);

/// Asks the systemd that runs here about services.
///
/// # Errors
/// When the bus or systemd does not answer.
pub fn services<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Service>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = Connection::system().await.context("the system bus does not answer")?;
        let mut services = BTreeMap::new();
        for name in names {
            let service = service(&connection, name).await;
            services.insert(
                name.to_owned(),
                service.with_context(|| format!("systemd, asked about {name}"))?,
            );
        }
        Ok(services)
    })
}

async fn service(connection: &Connection, name: &str) -> Result<Service> {
    let proxy: Proxy<'_> = zbus::proxy::Builder::new(connection)
        .destination("org.freedesktop.systemd1")
        .path(format!("/org/freedesktop/systemd1/unit/{}", label(name)))
        .interface("org.freedesktop.systemd1.Service")
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let mut lists = BTreeMap::new();
    for key in EXEC_KEYS {
        let execs: Vec<Exec> = proxy.get_property(&format!("{key}Ex")).await?;
        let commands: Vec<_> = execs
            .into_iter()
            .map(|(path, argv, flags, ..)| Command {
                path,
                argv,
                flags: flags.into_iter().collect(),
            })
            .collect();
        if !commands.is_empty() {
            lists.insert(key.to_owned(), commands);
        }
    }
    let files: Vec<(String, bool)> = proxy.get_property("EnvironmentFiles").await?;
    let file = |(path, optional): (String, bool)| if optional { format!("-{path}") } else { path };
    Ok(Service {
        kind: proxy.get_property("Type").await?,
        lists,
        environment: proxy.get_property("Environment").await?,
        environment_files: files.into_iter().map(file).collect(),
    })
}

/// A unit's name in an object path (`bus_label_escape()`).
fn label(name: &str) -> String {
    let mut label = String::new();
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            label.push_str(&format!("_{byte:02x}"));
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels() {
        for (name, want) in [
            ("a.service", "a_2eservice"),
            ("a@b-1.service", "a_40b_2d1_2eservice"),
            ("3x", "_33x"),
        ] {
            assert_eq!(label(name), want);
        }
    }
}
