//! The units of a definition: which keys go together, for which kinds of units.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Contradiction, Restart, Section, Sections, Unit, UnitKind, Whole, contradiction};
use crate::name::{ProgramName, UnitName};
use crate::value::{Line, VariableName, VariableValue};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawUnit {
    programs: Option<Vec<ProgramName>>,
    exec: Option<Line>,
    environment: BTreeMap<VariableName, VariableValue>,
    whole: bool,
    restart: Option<RawRestart>,
    #[serde(rename = "Unit")]
    unit: Option<RawSection>,
    #[serde(rename = "Service")]
    service: Option<RawSection>,
    #[serde(rename = "Socket")]
    socket: Option<RawSection>,
    #[serde(rename = "Timer")]
    timer: Option<RawSection>,
    #[serde(rename = "Install")]
    install: Option<RawSection>,
}

type RawSection = BTreeMap<SectionKey, SectionValue>;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawRestart {
    Restart,
    None,
    Reload,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct SectionKey(String);

impl TryFrom<String> for SectionKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a key of a unit file"))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected one line of text, a number, true or false, or a list of those"
)]
enum SectionValue {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected one line of text, a number, true or false")]
enum Scalar {
    Flag(bool),
    Number(i64),
    Text(Line),
}

impl Scalar {
    fn line(self) -> String {
        match self {
            // systemd.syntax(7): booleans are yes and no, among others.
            Self::Flag(flag) => if flag { "yes" } else { "no" }.to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(line) => line.to_string(),
        }
    }
}

impl SectionValue {
    fn lines(self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value.line()],
            Self::Many(values) => values.into_iter().map(Scalar::line).collect(),
        }
    }
}

impl RawUnit {
    /// Turns what was written about a unit into what it means.
    pub(super) fn resolve(mut self, unit: &UnitName) -> Result<Unit, Contradiction> {
        let wrong = |message: &str| contradiction(&["units", unit.as_str()], message);
        if unit.as_str().starts_with("venvd")
            || unit.as_str().starts_with("systemd-")
            || unit.as_str().starts_with("dbus")
        {
            return wrong("venvd never touches its own units, systemd's or dbus's: an activation could not survive it");
        }
        let own = match unit.kind() {
            "service" => Section::Service,
            "socket" => Section::Socket,
            "timer" => Section::Timer,
            _ => return wrong("only .service units are supported, and with `whole = true` .socket and .timer units"),
        };
        let sections = self.take_sections();
        if !self.whole && !sections.is_empty() {
            return wrong("sections are for units with `whole = true`; use a drop-in of your own for existing ones");
        }
        if own != Section::Service {
            return self.resolve_trigger(unit, (own, sections));
        }
        let foreign = |section: &Section| matches!(section, Section::Socket | Section::Timer);
        if sections.keys().any(foreign) {
            return wrong("a service has no Socket or Timer section; those units are declared by their own names");
        }
        let restart = match self.restart {
            None => None,
            Some(RawRestart::Restart) => Some(Restart::Restart),
            Some(RawRestart::None) => Some(Restart::None),
            Some(RawRestart::Reload) => {
                return wrong("restart = \"reload\" needs pin = \"link\", which is not supported yet");
            }
        };
        let kind = match (self.whole, self.exec, self.programs) {
            (_, Some(_), Some(_)) => return wrong("`exec` and `programs` exclude each other"),
            (true, None, _) => return wrong("`whole = true` needs `exec`"),
            (true, Some(exec), None) => {
                let service = sections.get(&Section::Service);
                if service.is_some_and(|keys| keys.contains_key("ExecStart")) {
                    return wrong("the command line of a whole unit is `exec`, not Service.ExecStart");
                }
                UnitKind::Whole(Whole {
                    exec: Some(exec),
                    sections,
                })
            }
            (false, Some(exec), None) => UnitKind::Exec(exec),
            (false, None, None) if !self.environment.is_empty() => UnitKind::Environment,
            (false, None, programs) => UnitKind::Spliced(programs.unwrap_or_default()),
        };
        Ok(Unit {
            kind,
            environment: self.environment,
            restart,
        })
    }

    /// A socket or timer: it runs nothing itself, so it has nothing to do with a venv but to belong to the app.
    fn resolve_trigger(self, unit: &UnitName, (own, sections): (Section, Sections)) -> Result<Unit, Contradiction> {
        let wrong = |message: &str| contradiction(&["units", unit.as_str()], message);
        if !self.whole {
            return wrong(
                "an existing socket or timer runs nothing from a venv: leave it out, or have it written with `whole = true`",
            );
        }
        let for_services =
            self.exec.is_some() || self.programs.is_some() || self.restart.is_some() || !self.environment.is_empty();
        if for_services {
            return wrong("`exec`, `programs`, `environment` and `restart` are for services");
        }
        if !sections.contains_key(&own) {
            return wrong("it needs a section of its kind, such as Socket.ListenStream or Timer.OnCalendar");
        }
        if sections
            .keys()
            .any(|section| ![Section::Unit, own, Section::Install].contains(section))
        {
            return wrong("it has a section of another kind of unit");
        }
        Ok(Unit {
            kind: UnitKind::Whole(Whole { exec: None, sections }),
            environment: BTreeMap::new(),
            // Restarted, a socket would drop whom it listens for.
            restart: Some(Restart::None),
        })
    }

    fn take_sections(&mut self) -> Sections {
        let sections = [
            (Section::Unit, self.unit.take()),
            (Section::Service, self.service.take()),
            (Section::Socket, self.socket.take()),
            (Section::Timer, self.timer.take()),
            (Section::Install, self.install.take()),
        ];
        let lines = |raw: RawSection| raw.into_iter().map(|(key, value)| (key.0, value.lines())).collect();
        sections
            .into_iter()
            .filter_map(|(kind, raw)| Some((kind, lines(raw?))))
            .collect()
    }
}
