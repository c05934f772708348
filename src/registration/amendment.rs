//! What can be changed of a binding once there is one, and the one place where it is done.
//!
//! Whoever changes it, each change takes the dongle's next epoch, which voids every proof that is out; leaves its line in
//! the journal and in the audit, in the same commit; and voids the phone's tokens when the phone or the binding goes. What
//! changes nothing takes no epoch: doing a thing twice is doing it once.

use rusqlite::Connection;

use super::binding::{BindingStatus, Registration, Summary};
use super::error::Error;
use super::mandate::{Author, Mandate};
use super::permits;
use super::tokens::{self, Role};
use super::truth::{
    Request, answered, audit, binding_by_id, binding_of, live_binding_of_plate, remember, set_lost, update,
};
use super::vehicle::{check_means, parse_plate};
use crate::engine::id::BindingId;
use crate::engine::plate::Plate;
use crate::engine::time::UnixMs;

/// A change of a binding, checked as far as it can be without the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment(What);

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Suspend,
    Restore,
    Revoke(Cause),
    Plate(Plate),
    Means(Vec<String>),
    Phone(Option<[u8; 32]>),
}

/// Why a binding ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Plate and dongle are free for the next claim.
    #[default]
    Ended,
    /// The car goes to somebody else, with its dongle or without: both are free for the next claim.
    Sold,
    /// The dongle is gone: nobody couples it until an operator frees it. The plate is free for another dongle.
    Lost,
}

impl Cause {
    /// As it is signed.
    pub(super) fn code(self) -> u8 {
        match self {
            Cause::Ended => 0,
            Cause::Sold => 1,
            Cause::Lost => 2,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Cause::Ended => "ended",
            Cause::Sold => "sold",
            Cause::Lost => "lost",
        }
    }
}

/// What became of an amendment.
#[derive(Debug)]
pub(super) struct Amended {
    /// To be answered; of a request that was made before, what was answered then.
    pub(super) summary: Summary,
    /// The binding, when this changed it.
    pub(super) changed: Option<Registration>,
    /// Its phone's tokens are void.
    pub(super) tokens_void: bool,
}

impl Amendment {
    /// Stops payments until it is restored. The car is still seen.
    pub fn suspend() -> Amendment {
        Amendment(What::Suspend)
    }

    pub fn restore() -> Amendment {
        Amendment(What::Restore)
    }

    /// Ends the binding for ever: its phone's tokens are void, its dongle leaves the codebook.
    pub fn revoke(cause: Cause) -> Amendment {
        Amendment(What::Revoke(cause))
    }

    pub fn plate(text: &str) -> Result<Amendment, Error> {
        Ok(Amendment(What::Plate(parse_plate(text)?)))
    }

    /// All means of payment, in the order in which they are charged.
    pub fn means(tokens: Vec<String>) -> Result<Amendment, Error> {
        check_means(&tokens)?;
        Ok(Amendment(What::Means(tokens)))
    }

    /// Another phone, or none.
    pub(super) fn phone(key: Option<[u8; 32]>) -> Amendment {
        Amendment(What::Phone(key))
    }

    pub(super) fn apply(
        &self,
        db: &Connection,
        binding: BindingId,
        mandate: &Mandate,
        now: UnixMs,
    ) -> Result<Amended, Error> {
        let before = binding_by_id(db, binding)?.ok_or(Error::UnknownBinding)?;
        let after = self.after(db, &before)?;
        if after == before {
            return Ok(Amended { summary: Summary::from(&before), changed: None, tokens_void: false });
        }
        let after = self.write(db, &before, after, mandate, now)?;
        let tokens_void = voids_tokens(&before, &after);
        Ok(Amended { summary: Summary::from(&after), changed: Some(after), tokens_void })
    }

    /// The binding as it is to be, but for its epoch.
    fn after(&self, db: &Connection, before: &Registration) -> Result<Registration, Error> {
        let mut after = before.clone();
        match &self.0 {
            What::Revoke(_) => after.status = BindingStatus::Revoked,
            _ if !before.status.is_live() => return Err(Error::Revoked),
            What::Suspend => after.status = BindingStatus::Suspended,
            What::Restore => after.status = BindingStatus::Active,
            What::Plate(plate) => {
                if live_binding_of_plate(db, plate)?.is_some_and(|owner| owner != before.device) {
                    return Err(Error::PlateTaken);
                }
                after.plate = plate.clone();
            }
            What::Means(means) => after.means.clone_from(means),
            What::Phone(phone) => after.phone = *phone,
        }
        Ok(after)
    }

    fn write(
        &self,
        db: &Connection,
        before: &Registration,
        mut after: Registration,
        mandate: &Mandate,
        now: UnixMs,
    ) -> Result<Registration, Error> {
        let who = mandate.who.to_string();
        let author = Author { who: &who, why: &mandate.why, what: self.name() };
        after.epoch = update(db, before, &after, author, now)?;
        if voids_tokens(before, &after) {
            tokens::delete_of(db, Role::Phone(before.binding))?;
            permits::close(db, before.binding)?;
        }
        if self.0 == What::Revoke(Cause::Lost) && binding_of(db, before.device)?.as_ref() == Some(&after) {
            set_lost(db, before.device, Some(now))?;
        }
        audit(db, now, author, &before.binding.to_string())?;
        Ok(after)
    }

    fn name(&self) -> &'static str {
        match &self.0 {
            What::Suspend => "binding suspended",
            What::Restore => "binding restored",
            What::Revoke(Cause::Ended) => "binding revoked",
            What::Revoke(Cause::Sold) => "binding revoked, car sold",
            What::Revoke(Cause::Lost) => "binding revoked, dongle lost",
            What::Plate(_) => "plate changed",
            What::Means(_) => "payment means changed",
            What::Phone(Some(_)) => "phone replaced",
            What::Phone(None) => "phone taken away",
        }
    }
}

/// Does the work once for each request; asked again, it answers what it answered.
pub(super) fn once(
    db: &Connection,
    request: Option<&Request>,
    now: UnixMs,
    work: impl FnOnce() -> Result<Amended, Error>,
) -> Result<Amended, Error> {
    let Some(request) = request else { return work() };
    if let Some(summary) = answered(db, request)? {
        return Ok(Amended { summary, changed: None, tokens_void: false });
    }
    let amended = work()?;
    remember(db, request, &amended.summary, amended.tokens_void, now)?;
    Ok(amended)
}

fn voids_tokens(before: &Registration, after: &Registration) -> bool {
    before.phone != after.phone || !after.status.is_live()
}
