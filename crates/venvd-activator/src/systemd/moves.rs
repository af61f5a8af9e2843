//! What a transaction would do with units, told before it is done.

use std::collections::{BTreeMap, BTreeSet};

use venvd_app::definition::{Restart, Unit};
use venvd_app::{App, UnitName, search};
use venvd_bus::plan::LeftAlone;

use super::members::{self, Properties, SERVICE, UNIT};
use super::{Systemd, target_of, unanswered};
use crate::machine::Failure;
use crate::plan::Moves;
use crate::transaction::{Part, Transaction};

/// What each of some units is ordered behind.
type Order = BTreeMap<UnitName, Vec<String>>;

impl Systemd {
    /// Returns what would be done with the units of a transaction that has captured them.
    pub(super) async fn told(&self, transaction: &Transaction) -> Result<Moves, Failure> {
        let failed = |error| unanswered(&format!("look at the units of {}", transaction.names()), &error);
        let up: BTreeSet<UnitName> = units(self.up(transaction).await?);
        let outside = transaction.outside.clone();
        let captured: Vec<UnitName> = transaction.captured().map(|captured| captured.unit.clone()).collect();
        let mut restart: BTreeSet<UnitName> = outside.iter().cloned().collect();
        let mut alone = Vec::new();
        for part in transaction.changing() {
            let follow = units(
                self.list_of(&target_of(&part.app), "ConsistsOf")
                    .await
                    .map_err(failed)?,
            );
            if part.enabled {
                restart.extend(follow.intersection(&up).cloned());
                alone.extend(strangers(part, &follow));
            } else {
                // Nothing follows the target yet.
                restart.extend(part.captured.iter().map(|captured| captured.unit.clone()));
            }
            alone.extend(self.left_alone(part).await.map_err(failed)?);
        }
        let down: Vec<UnitName> = up.into_iter().chain(outside.clone()).collect();
        let mut stop = self.in_order(down).await.map_err(failed)?;
        stop.reverse();
        let up_again: Vec<UnitName> = captured.into_iter().chain(outside).collect();
        Ok(Moves {
            stop,
            restart: self.in_order(restart.into_iter().collect()).await.map_err(failed)?,
            start: self.in_order(up_again).await.map_err(failed)?,
            alone,
        })
    }

    /// Returns the units of an app that were not captured, and why.
    async fn left_alone(&self, part: &Part) -> zbus::Result<Vec<LeftAlone>> {
        let app: Option<App> = search::load_app(&self.layout, &part.app).ok();
        let captured: BTreeSet<&UnitName> = part.captured.iter().map(|captured| &captured.unit).collect();
        let mut alone = Vec::new();
        for (declared, unit) in &app.map(|app| app.units).unwrap_or_default() {
            let instances = members::instances(&self.manager, declared).await?;
            if instances.is_empty() {
                alone.push(LeftAlone {
                    unit: declared.clone(),
                    why: "no instance of it is loaded".to_owned(),
                });
            }
            let names: Vec<UnitName> = instances.iter().filter_map(|name| name.parse().ok()).collect();
            for name in names {
                let path = self.manager.load_unit(name.as_str()).await?;
                let mut properties = Properties::of(&self.connection, &path, UNIT).await?;
                // An alias leads to another name.
                let id = properties.take::<String>("Id").parse::<UnitName>().unwrap_or(name);
                if captured.contains(&id) {
                    continue;
                }
                let mut service = Properties::of(&self.connection, &path, SERVICE).await?;
                let why = why(unit, &id, (&mut properties, &mut service));
                alone.push(LeftAlone { unit: id, why });
            }
        }
        Ok(alone)
    }

    /// Returns the services in the order in which they start.
    async fn in_order(&self, units: Vec<UnitName>) -> zbus::Result<Vec<UnitName>> {
        let mut order = Order::new();
        for unit in units {
            if unit.kind() != "target" {
                let after = self.list_of(unit.as_str(), "After").await?;
                order.insert(unit, after);
            }
        }
        Ok(sorted(order))
    }
}

/// Returns those captured units that don't follow the target of their app, which is on.
fn strangers(part: &Part, follow: &BTreeSet<UnitName>) -> Vec<LeftAlone> {
    let strangers = part.captured.iter().filter(|captured| !follow.contains(&captured.unit));
    let alone = strangers.map(|captured| LeftAlone {
        unit: captured.unit.clone(),
        // One that can't run from the venv is refused before.
        why: "it does not follow the app: it was taken out of what venvd changes".to_owned(),
    });
    alone.collect()
}

fn units(names: Vec<String>) -> BTreeSet<UnitName> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Says why a unit was not captured, as [`members::capture`] decides.
fn why(unit: &Unit, id: &UnitName, (properties, service): (&mut Properties, &mut Properties)) -> String {
    let load: String = properties.take("LoadState");
    let why = match load.as_str() {
        _ if unit.restart == Some(Restart::None) => {
            "its definition has `restart = \"none\"`: it changes with its next start"
        }
        "masked" => "it is masked",
        "not-found" => "it is not on this host",
        "loaded" if unit.restart.is_none() && service.take::<String>("Type") == "oneshot" => {
            "it is a oneshot: it changes with its next start"
        }
        "loaded" if members::is_vital(id) => "without it no activation could go on",
        "loaded" => "it is stopped, and stays so",
        other => return format!("systemd can't load it ({other})"),
    };
    why.to_owned()
}

/// Returns the units so that each comes behind those that it is ordered behind; of a circle, the first by name first.
fn sorted(mut order: Order) -> Vec<UnitName> {
    let mut sorted = Vec::new();
    while !order.is_empty() {
        let is_free = |after: &Vec<String>| !after.iter().any(|unit| order.keys().any(|key| key.as_str() == unit));
        let next = order
            .iter()
            .find(|(_, after)| is_free(after))
            .or_else(|| order.iter().next());
        let Some(next) = next.map(|(unit, _)| unit.clone()) else {
            break;
        };
        order.remove(&next);
        sorted.push(next);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_behind_what_it_is_ordered_behind() {
        // Each unit with those that it is ordered behind.
        let order = |units: &[&str]| -> String {
            let order = units.iter().map(|text| {
                let mut names = text.split(' ').map(|name| format!("{name}.service"));
                (names.next().unwrap().parse().unwrap(), names.collect())
            });
            let names: Vec<String> = sorted(order.collect()).iter().map(ToString::to_string).collect();
            names.join(" ").replace(".service", "")
        };
        for (units, expected) in [
            (&[][..], ""),
            (&["b", "a x"], "a b"),
            (&["a c", "b a", "c"], "c a b"),
            (&["a b", "b a"], "a b"),
        ] {
            assert_eq!(order(units), expected);
        }
    }
}
