//! Taking over the bindings of another server from its table `location`.

use std::io;
use std::time::Duration;

use net::{HeldBy, Imported, StandsBy};
use routing::StoredBinding;
use serde_json::Value;
use store::{FoundRow, Home, LeftOut, LocationSettings, LocationTable, ServerSettings};

use super::{Service, gone, value};
use crate::control::{HeldView, ImportItem, ImportView, ImportWish};
use crate::database::{self, Location, location_settings};

/// Rows that are told one by one: more are no reading.
const TOLD_MAX: u64 = 1_000;
/// How long a page waits for room on the way to the other node.
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the end waits for the other node, and for this node's own disk.
const HELD_TIME_MAX: Duration = Duration::from_secs(10);

/// Takes what is told on the way; it fails when nobody listens any more.
type Tell<'a> = &'a mut dyn FnMut(Value) -> io::Result<()>;

impl Service {
    /// Takes over what another server left, as far as it can be.
    pub(super) fn import(&self, wish: &ImportWish, tell: Tell<'_>) -> Result<Value, String> {
        let (settings, time_zone, location) = self.source_of(wish)?;
        let is_own = location != Location::Off;
        if wish.nothing && !is_own {
            return Err(
                "--nothing is for a table that Tandem is to write: database.location is \"off\"".to_owned()
            );
        }
        let is_shared = location == Location::Shared;
        let of_table = LocationSettings { is_shared, ..location_settings(&time_zone) };
        let mut table = LocationTable::open(&settings, &of_table).map_err(|error| error.to_string())?;
        let was_decided = is_own && table.is_decided().map_err(|error| error.to_string())?;
        let mut view = ImportView { decided: is_own.then_some(was_decided), ..ImportView::default() };
        // What is there is what is registered here, or was until a moment ago.
        if was_decided {
            return value(view);
        }
        if !wish.nothing {
            self.take_rows(wish, is_shared, &mut table, &mut view, tell)?;
        }
        if wish.dry_run {
            return value(view);
        }
        if !wish.nothing {
            view.held = Some(match self.server.wait_for_other_node(HELD_TIME_MAX) {
                HeldBy::ThisNode => HeldView::ThisNode,
                HeldBy::NotYetTheDisk => HeldView::NotYetTheDisk,
                HeldBy::BothNodes => HeldView::BothNodes,
                HeldBy::NotYetTheOther => HeldView::NotYetTheOther,
            });
        }
        let is_held = matches!(view.held, Some(HeldView::ThisNode | HeldView::BothNodes));
        let is_complete = is_held && nothing_is_left(&view, location);
        if is_own && (wish.nothing || is_complete) {
            let epoch = self.server.epoch().ok_or_else(stands_by)?;
            table.decide(epoch).map_err(|error| error.to_string())?;
            view.decided = Some(true);
        }
        let ImportView { rows, taken, known, .. } = view;
        tracing::info!(
            rows,
            taken,
            known,
            place = table.place(),
            "bindings of another server were taken over"
        );
        value(view)
    }

    /// Where it is read, by which time zone, and whether that is the table that Tandem is to write.
    fn source_of(&self, wish: &ImportWish) -> Result<(ServerSettings, String, Location), String> {
        let config = self.config.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let time_zone = wish.time_zone.clone().unwrap_or_else(|| config.database.time_zone.clone());
        if let Some(url) = &wish.from {
            return Ok((database::server_at(url, wish.password.clone())?, time_zone, Location::Off));
        }
        let settings = database::server(&config).map_err(|error| format!("{error:#}"))?;
        let settings = settings.ok_or(
            "the configuration names no database: tell one with --from postgres://USER@HOST/DATABASE or mysql://...",
        )?;
        Ok((settings, time_zone, config.database.location))
    }

    fn take_rows(
        &self,
        wish: &ImportWish,
        is_shared: bool,
        table: &mut LocationTable,
        view: &mut ImportView,
        tell: Tell<'_>,
    ) -> Result<(), String> {
        let listeners: Vec<_> = self
            .server
            .settings()
            .listeners
            .iter()
            .map(|listener| (listener.transport, listener.local))
            .collect();
        let serves = |aor: &_| self.serves(aor);
        let home = Home { listeners: &listeners, serves: &serves, domain: wish.domain.as_deref(), is_shared };
        let of = table.count().map_err(|error| error.to_string())?;
        let mut told = 0;
        loop {
            let page = table.page(&home).map_err(|error| error.to_string())?;
            if page.is_empty() {
                return Ok(());
            }
            view.rows += page.len() as u64;
            let mut bindings = Vec::with_capacity(page.len());
            let mut left = Vec::new();
            for FoundRow { name, contact, binding } in page {
                match binding {
                    Ok(binding) => bindings.push(binding),
                    Err(why) => {
                        count(view, why.name());
                        if !matches!(why, LeftOut::Expired | LeftOut::Own) {
                            left.push(ImportItem::LeftOut { name, contact, why: why.to_string() });
                        }
                    }
                }
            }
            left.extend(self.take_bindings(wish, bindings, view)?);
            for item in left {
                if told < TOLD_MAX {
                    told += 1;
                    tell(value(item)?).map_err(gone)?;
                }
            }
            let progress = ImportItem::Progress { rows: view.rows, of };
            tell(value(progress)?).map_err(gone)?;
        }
    }

    /// Takes bindings over, or looks which would be; gives those that can not be.
    fn take_bindings(
        &self,
        wish: &ImportWish,
        bindings: Vec<StoredBinding>,
        view: &mut ImportView,
    ) -> Result<Vec<ImportItem>, String> {
        if wish.dry_run {
            for binding in bindings {
                let here = self.server.contacts(Some(&binding.aor));
                let is_known = here.iter().any(|it| it.contact == binding.contact);
                *if is_known { &mut view.known } else { &mut view.taken } += 1;
            }
            return Ok(Vec::new());
        }
        let names: Vec<_> = bindings
            .iter()
            .map(|it| (it.aor.to_string(), String::from_utf8_lossy(&it.contact).into_owned()))
            .collect();
        let outcomes = self.server.import(bindings, ROOM_TIME_MAX).map_err(|StandsBy| stands_by())?;
        let mut left = Vec::new();
        for ((name, contact), outcome) in names.into_iter().zip(outcomes) {
            let why = match outcome {
                Imported::Taken => {
                    view.taken += 1;
                    continue;
                }
                Imported::Known => {
                    view.known += 1;
                    continue;
                }
                Imported::Ended => {
                    count(view, LeftOut::Expired.name());
                    continue;
                }
                Imported::TooMany => "it has as many contacts as registrar.contacts_max allows",
                Imported::Full => "it is longer than a binding may be, or there is no room for more",
            };
            count(view, if outcome == Imported::TooMany { "too many contacts" } else { "too long" });
            left.push(ImportItem::LeftOut { name, contact, why: why.to_owned() });
        }
        Ok(left)
    }
}

/// Whether all that was left out is of no use to anybody.
fn nothing_is_left(view: &ImportView, location: Location) -> bool {
    // In a shared table they are of the servers beside this one.
    let of_others: &[&str] = match location {
        Location::Shared => &[LeftOut::UnknownSocket(String::new()).name(), LeftOut::NoSocket.name()],
        Location::Own | Location::Off => &[],
    };
    let is_over = |name: &String| {
        *name == LeftOut::Expired.name() || *name == LeftOut::Own.name() || of_others.contains(&name.as_str())
    };
    view.left_out.keys().all(is_over)
}

fn count(view: &mut ImportView, name: &str) {
    *view.left_out.entry(name.to_owned()).or_default() += 1;
}

fn stands_by() -> String {
    "this node stands by: do it on the active one, which `tandem status` names".to_owned()
}
