//! Looks on while a job is done, also when venvd goes away in the middle and comes back.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use venvd_bus::{
    BUS_NAME, INTERFACE, JOB_INTERFACE, JOBS_PATH, JobReport, MANAGER_PATH, ManagerProxy, job_id, job_path,
};
use zbus::fdo::{self, DBusProxy, PropertiesProxy};
use zbus::message::Type;
use zbus::names::InterfaceName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant};

use super::view::View;
use super::{Request, Shown, interrupted, lost, unreachable};
use crate::failure::Failure;

/// How long venvd may be away: systemd starts it again after a second, and it first puts right what was cut off.
const AWAY: Duration = Duration::from_secs(60);

/// How often a countdown is shown anew.
const COUNT: Duration = Duration::from_millis(500);

/// How far two clocks that count seconds can be apart.
const ROUNDING: Duration = Duration::from_secs(2);

/// What is heard on the bus.
#[derive(Debug)]
enum Event {
    /// Properties of a job have changed.
    Changed(u32, HashMap<String, OwnedVariant>),
    /// A job has ended.
    Removed(u32),
    /// venvd has gone, or is there again.
    Owner { present: bool },
}

/// Why one looks on no longer.
#[derive(Debug)]
enum Looked {
    /// The job has ended, or is not there.
    Over,
    /// venvd is not there.
    Away,
}

/// Hears of all jobs.
#[derive(Debug)]
pub(super) struct Watch {
    connection: Connection,
    events: UnboundedReceiver<Event>,
}

impl Watch {
    /// Begins to listen: before something is asked for, since that may be over when the answer is read.
    pub(super) async fn new(connection: &Connection) -> zbus::Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let rule = || MatchRule::builder().msg_type(Type::Signal).sender(BUS_NAME);
        let changed = rule()
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path_namespace(JOBS_PATH);
        let removed = rule().interface(INTERFACE).member("JobRemoved").path(MANAGER_PATH);
        for (rule, read) in [(changed, read_changed as fn(&Message) -> _), (removed, read_removed)] {
            let stream = MessageStream::for_match_rule(rule.build()?, connection, None).await?;
            tokio::spawn(pump(stream, read, sender.clone()));
        }
        let bus = DBusProxy::new(connection).await?;
        let mut owners = bus.receive_name_owner_changed_with_args(&[(0, BUS_NAME)]).await?;
        tokio::spawn(async move {
            while let Some(signal) = owners.next().await {
                let present = signal.args().is_ok_and(|args| args.new_owner.is_some());
                if sender.send(Event::Owner { present }).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            connection: connection.clone(),
            events,
        })
    }

    /// Looks on until a job has ended, and returns its report.
    pub(super) async fn until_ended(
        &mut self,
        (id, request): (u32, &Request),
        show: &mut dyn Shown,
    ) -> Result<JobReport, Failure> {
        loop {
            let looked = tokio::select! {
                looked = self.look_on(id, show) => looked,
                _ = tokio::signal::ctrl_c() => return Err(interrupted(id, &request.app())),
            };
            match looked {
                Ok(Looked::Away) => self.back(id).await?,
                Ok(Looked::Over) => match self.report(id).await {
                    Ok(Some(report)) if !request.is_that_of(&report) => return Err(forgotten(id)),
                    Ok(Some(report)) if report.result.is_some() => return Ok(report),
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(forgotten(id)),
                    Err(error) if is_away(&error) => self.back(id).await?,
                    Err(error) => return Err(lost(id, &error.to_string())),
                },
                Err(error) if is_away(&error) => self.back(id).await?,
                Err(error) => return Err(lost(id, &error.to_string())),
            }
        }
    }

    /// Shows how a job is, until that says that it has ended or is not there.
    async fn look_on(&mut self, id: u32, show: &mut dyn Shown) -> zbus::Result<Looked> {
        let mut view = View::default();
        let Some(properties) = self.properties(id).await? else {
            return Ok(Looked::Over);
        };
        view.take(properties);
        while !view.ended {
            show.show(&view);
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = tokio::time::sleep(COUNT), if view.settle_until.is_some() => continue,
            };
            match event {
                Some(Event::Changed(changed, properties)) if changed == id => {
                    view.take(properties);
                    // The end is announced on its own, when all that belongs to it is done.
                    view.ended = false;
                }
                Some(Event::Removed(removed)) if removed == id => return Ok(Looked::Over),
                Some(Event::Owner { present: false }) => return Ok(Looked::Away),
                Some(_) => {}
                None => return Err(bus_gone()),
            }
        }
        Ok(Looked::Over)
    }

    /// Waits until venvd is back.
    async fn back(&mut self, id: u32) -> Result<(), Failure> {
        let back = tokio::time::timeout(AWAY, self.present()).await;
        match back {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(id, &error.to_string())),
            Err(_) => Err(lost(id, "venvd went away and did not come back")),
        }
    }

    async fn present(&mut self) -> zbus::Result<()> {
        let bus = DBusProxy::new(&self.connection).await?;
        // What was heard before may be old by now.
        let name = BUS_NAME.try_into()?;
        if bus.name_has_owner(name).await? {
            return Ok(());
        }
        loop {
            match self.events.recv().await {
                Some(Event::Owner { present: true }) => return Ok(()),
                Some(_) => {}
                None => return Err(bus_gone()),
            }
        }
    }

    /// Finds the job that a request became, of which no answer came: venvd went away in the middle.
    pub(super) async fn find(&mut self, request: &Request, asked: SystemTime) -> Result<u32, Failure> {
        self.back(0).await.map_err(|_| unanswered())?;
        let manager = ManagerProxy::new(&self.connection).await.map_err(unreachable)?;
        let since = asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(ROUNDING);
        for (id, ..) in manager.list_jobs().await.map_err(unreachable)?.into_iter().rev() {
            let mut view = View::default();
            view.take(self.properties(id).await.map_err(unreachable)?.unwrap_or_default());
            if view.apps.iter().eq(request.apps().iter().map(|app| app.as_str()))
                && view.caller_uid == Some(nix::unistd::geteuid().as_raw())
                && Duration::from_micros(view.started) >= since
            {
                return Ok(id);
            }
        }
        Err(unanswered())
    }

    /// Returns what the object of a job says; nothing if it is not there.
    async fn properties(&self, id: u32) -> zbus::Result<Option<HashMap<String, OwnedVariant>>> {
        let object = PropertiesProxy::builder(&self.connection)
            .destination(BUS_NAME)
            .path(job_path(id))
            .build()
            .await?;
        match object.get_all(InterfaceName::from_static_str(JOB_INTERFACE)?).await {
            Ok(properties) => Ok(Some(properties)),
            Err(fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn report(&self, id: u32) -> zbus::Result<Option<JobReport>> {
        let manager = ManagerProxy::new(&self.connection).await?;
        match manager.get_job(id).await {
            Ok(json) => {
                let read = JobReport::from_json(&json);
                read.map(Some).map_err(|error| {
                    zbus::Error::Failure(format!(
                        "its report can't be read: {error}; are venvctl and venvd of one version?"
                    ))
                })
            }
            Err(error) if says(&error, &["InvalidArgs"]) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads on always: a stream that nobody reads blocks the whole connection.
async fn pump(mut stream: MessageStream, read: fn(&Message) -> Option<Event>, events: UnboundedSender<Event>) {
    while let Some(message) = stream.next().await {
        // What can't be read is none of venvd's.
        if let Some(event) = message.ok().and_then(|message| read(&message))
            && events.send(event).is_err()
        {
            return;
        }
    }
}

fn read_changed(message: &Message) -> Option<Event> {
    let id = job_id(message.header().path()?.as_str())?;
    let body = message.body();
    let (interface, properties, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = body.deserialize().ok()?;
    (interface == JOB_INTERFACE).then_some(Event::Changed(id, properties))
}

fn read_removed(message: &Message) -> Option<Event> {
    let body = message.body();
    let (id, ..): (u32, zbus::OwnedObjectPath, String, String) = body.deserialize().ok()?;
    Some(Event::Removed(id))
}

fn bus_gone() -> zbus::Error {
    zbus::Error::Failure("the bus went away".to_owned())
}

/// Returns whether an answer says that venvd has gone, so that it is worth waiting for it.
pub(super) fn is_away(error: &zbus::Error) -> bool {
    says(error, &["NoReply", "NameHasNoOwner", "ServiceUnknown"])
}

/// Returns whether an error is one of these of D-Bus itself.
pub(super) fn says(error: &zbus::Error, names: &[&str]) -> bool {
    let name = match error {
        zbus::Error::MethodError(name, ..) => name.to_string(),
        zbus::Error::FDO(error) => zbus::DBusError::name(&**error).to_string(),
        _ => return false,
    };
    let word = name.strip_prefix("org.freedesktop.DBus.Error.");
    word.is_some_and(|word| names.contains(&word))
}

/// It was only in line: what has begun is in venvd's journal.
fn forgotten(id: u32) -> Failure {
    Failure::refused(
        "not-begun",
        format!("venvd was started anew before it began job {id}, so nothing was changed; ask again"),
    )
}

fn unanswered() -> Failure {
    Failure {
        code: "lost".to_owned(),
        message: "venvd went away before it answered; `venvctl status` shows what is in force, then ask again"
            .to_owned(),
        exit: 4,
    }
}
