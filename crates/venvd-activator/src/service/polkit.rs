//! Who may ask for what: root, and for a user's venvs that user; of others polkit says so, which may ask somebody for a
//! password.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use venvd_app::{Layout, Scope};
use venvd_fs::chain::Owners;
use zbus::fdo::{self, DBusProxy};
use zbus::message::{Flags, Header};
use zbus::names::BusName;
use zbus::proxy::MethodFlags;
use zbus::{Connection, Proxy, Variant};

use crate::aside::aside;

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const AUTHORITY_PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const AUTHORITY: &str = "org.freedesktop.PolicyKit1.Authority";

/// `CheckAuthorizationFlags`: somebody may be asked.
const ALLOW_USER_INTERACTION: u32 = 1;

/// How many questions to somebody may be open for one caller's user: each costs memory until it is answered.
const QUESTIONS: usize = 4;

/// What polkit's policy has a rule for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Another venv in force.
    Activate,
    /// Apps on and off.
    Manage,
    /// What failed, and why.
    Inspect,
}

impl Action {
    fn id(self) -> &'static str {
        match self {
            Self::Activate => "org.venvd1.activate",
            Self::Manage => "org.venvd1.manage",
            Self::Inspect => "org.venvd1.inspect",
        }
    }
}

/// Who was let in.
#[derive(Debug)]
pub(super) struct Admitted<T> {
    pub(super) uid: u32,
    /// What polkit was asked about; nothing where it was not asked.
    pub(super) frozen: Option<T>,
}

/// What rules may look at, and what a question may quote.
type Details<'a> = HashMap<&'a str, &'a str>;

/// The answer of `CheckAuthorization`: yes, yes after a question, and more that is not for us.
type Authorization = (bool, bool, HashMap<String, String>);

/// What polkit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    /// If somebody types a password.
    Perhaps,
    No,
}

/// Lets callers in, or not.
#[derive(Debug)]
pub(super) struct Gate {
    connection: Connection,
    owners: Owners,
    scope: Scope,
    questions: Mutex<BTreeMap<u32, usize>>,
}

impl Gate {
    pub(super) fn new(connection: &Connection, layout: &Layout) -> Self {
        Self {
            connection: connection.clone(),
            owners: layout.owners(),
            scope: layout.scope(),
            questions: Mutex::default(),
        }
    }

    /// Lets the sender of a call do this, or not. `freeze` reads what a yes is for, before anybody is asked.
    ///
    /// Nothing is read from the disk for who may not even be asked.
    pub(super) async fn admit<T: Send + 'static>(
        &self,
        header: &Header<'_>,
        (action, details): (Action, &HashMap<&str, String>),
        freeze: impl FnOnce() -> T + Send + 'static,
    ) -> fdo::Result<Admitted<T>> {
        let uid = self.caller(header).await?;
        if self.owners.admit(uid) {
            return Ok(Admitted { uid, frozen: None });
        }
        // On the bus of a user there is no polkit, and nobody else has business with his venvs.
        if self.scope == Scope::User {
            return Err(denied());
        }
        let details: Details<'_> = details.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let answer = self.ask(header, (action, &details), 0).await;
        let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        match answer {
            Answer::Yes => Ok(Admitted {
                uid,
                frozen: Some(off_loop(freeze).await?),
            }),
            Answer::Perhaps if interactive => {
                let _question = self.question(uid)?;
                let frozen = Some(off_loop(freeze).await?);
                match self.ask(header, (action, &details), ALLOW_USER_INTERACTION).await {
                    Answer::Yes => Ok(Admitted { uid, frozen }),
                    Answer::Perhaps | Answer::No => Err(denied()),
                }
            }
            Answer::Perhaps => Err(fdo::Error::InteractiveAuthorizationRequired(
                "a password is needed, and the call does not allow to ask for one".to_owned(),
            )),
            Answer::No => Err(denied()),
        }
    }

    /// Returns the user that sent a call.
    pub(super) async fn caller(&self, header: &Header<'_>) -> fdo::Result<u32> {
        let sender = header
            .sender()
            .ok_or_else(|| fdo::Error::AccessDenied("the call has no sender".to_owned()))?;
        DBusProxy::new(&self.connection)
            .await?
            .get_connection_unix_user(BusName::from(sender.clone()))
            .await
    }

    /// Asks polkit about the sender of a call. Where there is none, the answer is no.
    async fn ask(&self, header: &Header<'_>, (action, details): (Action, &Details<'_>), flags: u32) -> Answer {
        match self.check(header, (action, details), flags).await {
            Ok((true, _, _)) => Answer::Yes,
            Ok((false, challenge, _)) if challenge => Answer::Perhaps,
            Ok(_) => Answer::No,
            Err(error) => {
                tracing::warn!("polkit does not say whether {} is allowed: {error}", action.id());
                Answer::No
            }
        }
    }

    async fn check(
        &self,
        header: &Header<'_>,
        (action, details): (Action, &Details<'_>),
        flags: u32,
    ) -> zbus::Result<Authorization> {
        // The bus gives a name to one connection and never to another; a process could become another one meanwhile.
        let sender = header.sender().ok_or(zbus::Error::MissingField)?;
        let subject = (
            "system-bus-name",
            HashMap::from([("name", Variant::from(sender.as_str()))]),
        );
        let authority = Proxy::new(&self.connection, POLKIT, AUTHORITY_PATH, AUTHORITY).await?;
        let arguments = (subject, action.id(), details, flags, "");
        // Without a timeout, which other calls have: somebody may have to find his password.
        let answer = authority
            .call_with_flags("CheckAuthorization", MethodFlags::empty(), &arguments)
            .await?;
        answer.ok_or(zbus::Error::InvalidReply)
    }

    /// Counts a question to somebody until it is answered.
    fn question(&self, uid: u32) -> fdo::Result<Question<'_>> {
        let mut open = self.open();
        let open = open.entry(uid).or_default();
        if *open >= QUESTIONS {
            return Err(fdo::Error::LimitsExceeded(format!(
                "{QUESTIONS} questions for a password are open; answer one first"
            )));
        }
        *open += 1;
        Ok(Question { gate: self, uid })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        // A number can't be half changed.
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that somebody is asked.
#[derive(Debug)]
struct Question<'a> {
    gate: &'a Gate,
    uid: u32,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        if let Some(open) = open.get_mut(&self.uid) {
            *open -= 1;
        }
        open.retain(|_, open| *open > 0);
    }
}

/// Reads from the disk beside the event loop.
async fn off_loop<T: Send + 'static>(freeze: impl FnOnce() -> T + Send + 'static) -> fdo::Result<T> {
    aside(freeze)
        .await
        .map_err(|failure| fdo::Error::Failed(failure.message))
}

fn denied() -> fdo::Error {
    fdo::Error::AccessDenied("polkit does not allow it; root may".to_owned())
}
