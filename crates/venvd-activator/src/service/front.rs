//! What the manager and the apps do alike: takes a request of somebody who may ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use venvd_app::{AppName, Tag};
use venvd_bus::{Cause, JobReport, job_path};
use venvd_fs::report;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::facts::path;
use super::polkit::{Action, Gate};
use crate::desk::Desk;
use crate::digest::Digest;
use crate::host::Host;
use crate::machine::{OldRights, When};
use crate::request::{Ask, Options, Request, Want};

/// How many apps one request may be about.
const MOST: usize = 64;

/// In front of the desk.
#[derive(Debug)]
pub(crate) struct Front {
    pub(super) desk: Arc<Desk>,
    pub(super) host: Host,
    gate: Gate,
}

impl Front {
    /// Opens it for those who come over this connection.
    pub(crate) fn new(desk: &Arc<Desk>, host: &Host, connection: &Connection) -> Arc<Self> {
        Arc::new(Self {
            desk: Arc::clone(desk),
            host: host.clone(),
            gate: Gate::new(connection, host.layout()),
        })
    }

    /// Takes a request of this caller, if he may ask. If he was asked back, his yes is for the venvs as they were then.
    pub(super) async fn submit(
        &self,
        header: &Header<'_>,
        (wants, options): (Vec<Want>, Options),
    ) -> fdo::Result<OwnedObjectPath> {
        let is_switch = |want: &Want| matches!(want.ask, Ask::Enable | Ask::Disable);
        let action = if wants.iter().any(is_switch) {
            Action::Manage
        } else {
            Action::Activate
        };
        let details = details(&wants);
        let (host, mut frozen) = (self.host.clone(), wants.clone());
        let freeze = move || {
            frozen.iter_mut().for_each(|want| want.freeze(&host));
            frozen
        };
        let admitted = self.gate.admit(header, (action, &details), freeze).await?;
        // A yes is for a content, so there must be one.
        let is_about_nothing = |want: &Want| want.digest.is_none() && !matches!(want.ask, Ask::Disable);
        if admitted.frozen.iter().flatten().any(is_about_nothing) {
            return Err(invalid("there is no such venv, or it is not sealed"));
        }
        let request = Request {
            wants: admitted.frozen.unwrap_or(wants),
            caller_uid: Some(admitted.uid),
            options,
        };
        let id = self
            .desk
            .submit(request)
            .ok_or_else(|| fdo::Error::Failed("venvd is about to end; ask again".to_owned()))?;
        // Whoever gets the path finds the object.
        self.desk.heard().await;
        Ok(path(job_path(id)))
    }

    /// Returns who a caller is, if he may know what would be done: what speaks against it may name files that not everybody
    /// may read.
    pub(super) async fn may_inspect(&self, header: &Header<'_>, wants: &[Want]) -> fdo::Result<u32> {
        let details = details(wants);
        let admitted = self.gate.admit(header, (Action::Inspect, &details), || ()).await?;
        Ok(admitted.uid)
    }

    /// Returns all that is known of a job, to who may see it: what failed, and why, may name what not everybody may read.
    pub(super) async fn report(&self, header: &Header<'_>, id: u32) -> fdo::Result<JobReport> {
        let caller = self.gate.caller(header).await?;
        // Who asked for it is told how it ended, for a while. Nothing is read from the disk for who may not even be asked.
        let is_own = self
            .desk
            .recent(id)
            .is_some_and(|report| report.caller_uid == Some(caller));
        if !is_own {
            let details = HashMap::from([("job", id.to_string())]);
            self.gate.admit(header, (Action::Inspect, &details), || ()).await?;
        }
        let found = self
            .desk
            .report(id)
            .map_err(|error| fdo::Error::Failed(report(&error)))?;
        found.ok_or_else(|| fdo::Error::InvalidArgs(format!("there is no job {id}, or it is long ago")))
    }
}

/// Returns what rules of polkit, and who is asked for a password, get to know of a request. Several apps are one word
/// with blanks: a rule that allows one of them does not allow that.
fn details(wants: &[Want]) -> HashMap<&'static str, String> {
    let join = |say: &dyn Fn(&Want) -> String| wants.iter().map(say).collect::<Vec<_>>().join(" ");
    let verb = wants.first().map_or("", |want| want.ask.verb());
    let mut details = HashMap::from([("app", join(&|want| want.app.to_string())), ("verb", verb.to_owned())]);
    let venv = |want: &Want| match &want.ask {
        Ask::Activate(tag) => format!("{}:{tag}", want.app),
        _ => String::new(),
    };
    if verb == "activate" {
        details.insert("venv", join(&venv));
    }
    details
}

/// Returns what is asked for of apps that get a venv, in the order of their names.
pub(super) fn activations(venvs: &[(String, String)]) -> fdo::Result<Vec<Want>> {
    let mut wants = BTreeMap::new();
    for (app, tag) in venvs.iter().take(MOST + 1) {
        let app = app.parse::<AppName>().map_err(invalid)?;
        let tag = tag.parse::<Tag>().map_err(invalid)?;
        if wants.insert(app.clone(), Ask::Activate(tag)).is_some() {
            return Err(invalid(format!("{app} is named twice")));
        }
    }
    if wants.is_empty() {
        return Err(invalid("no venv is named"));
    }
    if wants.len() > MOST {
        return Err(invalid(format!("more than {MOST} venvs at once")));
    }
    Ok(wants.into_iter().map(|(app, ask)| Want::new(app, ask)).collect())
}

/// Takes over what the options say of the venvs, and returns what they say of how.
pub(super) fn options_of(options: &HashMap<String, OwnedVariant>, wants: &mut [Want]) -> fdo::Result<Options> {
    let mut parsed = Options::of(Cause::Dbus);
    for (option, value) in options {
        let is_set = || bool::try_from(&**value).map_err(|_| invalid(format!("the option {option} is a boolean")));
        match option.as_str() {
            "cause" => match <&str>::try_from(&**value) {
                Ok("dbus") => parsed.cause = Cause::Dbus,
                Ok("apply") => parsed.cause = Cause::Apply,
                _ => return Err(invalid("the option cause is \"dbus\" or \"apply\"")),
            },
            "digest" => {
                let digest = <&str>::try_from(&**value).ok().and_then(|text| text.parse().ok());
                let digest: Digest = digest.ok_or_else(|| invalid("the option digest is a manifest's, in hex"))?;
                let [want] = &mut *wants else {
                    return Err(invalid("the option digest is for one venv"));
                };
                want.digest = Some(digest);
            }
            "revoke" if is_set()? => parsed.old_rights = OldRights::Revoked,
            "at-next-restart" if is_set()? => parsed.restart = When::Later,
            "force" => parsed.force = is_set()?,
            "revoke" | "at-next-restart" => {}
            _ => return Err(invalid(format!("there is no option {option:?}"))),
        }
    }
    if parsed.old_rights == OldRights::Revoked && parsed.restart == When::Later {
        return Err(invalid(
            "what is not restarted needs its rights: not both revoke and at-next-restart",
        ));
    }
    Ok(parsed)
}

pub(super) fn invalid(error: impl ToString) -> fdo::Error {
    fdo::Error::InvalidArgs(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    #[test]
    fn apps_are_sorted_and_named_once() {
        let parse = |venvs: &[(&str, &str)]| {
            let venvs = venvs.iter().map(|&(app, tag)| (app.to_owned(), tag.to_owned()));
            activations(&venvs.collect::<Vec<_>>())
        };
        let wants = parse(&[("nova", "2"), ("glance", "7")]).unwrap();
        let names: Vec<&str> = wants.iter().map(|want| want.app.as_str()).collect();
        assert_eq!(names, ["glance", "nova"]);
        let details = details(&wants);
        assert_eq!(
            (details["app"].as_str(), details["verb"].as_str()),
            ("glance nova", "activate")
        );
        assert_eq!(details["venv"], "glance:7 nova:2");
        for bad in [
            &[][..],
            &[("nova", "1"), ("nova", "2")],
            &[("Nova", "1")],
            &[("nova", "..")],
        ] {
            assert!(matches!(parse(bad), Err(fdo::Error::InvalidArgs(_))), "{bad:?}");
        }
    }

    #[test]
    fn options_are_known_or_refused() {
        let options = |key: &str, value: Variant<'_>| HashMap::from([(key.to_owned(), value.try_to_owned().unwrap())]);
        let parse = |options: &HashMap<String, OwnedVariant>| options_of(options, &mut []);
        assert_eq!(parse(&HashMap::new()).unwrap(), Options::of(Cause::Dbus));
        assert_eq!(
            parse(&options("cause", "apply".into())).unwrap(),
            Options::of(Cause::Apply)
        );
        let revoked = parse(&options("revoke", true.into())).unwrap();
        assert_eq!(revoked.old_rights, OldRights::Revoked);
        let later = parse(&options("at-next-restart", true.into())).unwrap();
        assert_eq!((later.restart, later.force), (When::Later, false));
        assert!(parse(&options("force", true.into())).unwrap().force);
        let digest = "0a".repeat(32);
        let mut one = activations(&[("nova".to_owned(), "2".to_owned())]).unwrap();
        options_of(&options("digest", digest.as_str().into()), &mut one).unwrap();
        assert_eq!(one[0].digest.unwrap().to_string(), digest);
        assert!(
            parse(&options("digest", digest.as_str().into())).is_err(),
            "of which venv?"
        );
        assert_eq!(
            parse(&options("revoke", false.into())).unwrap(),
            Options::of(Cause::Dbus)
        );
        let both = [options("revoke", true.into()), options("at-next-restart", true.into())];
        assert!(parse(&both.into_iter().flatten().collect()).is_err());
        for bad in [
            options("revoke", "yes".into()),
            options("cause", "boot".into()),
            options("cause", 1u32.into()),
            options("force", "yes".into()),
            options("hurry", true.into()),
            options("digest", "0a".into()),
        ] {
            assert!(matches!(parse(&bad), Err(fdo::Error::InvalidArgs(_))), "{bad:?}");
        }
    }
}
