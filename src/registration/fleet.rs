//! The dongles of the codebook, and how far the truth was when they were read.
//!
//! Whoever fills it from anything but the truth (a snapshot, a cache) says which moment that is of, and the fleet
//! asks the truth for all that changed since: so nothing that was revoked comes back, however old the copy is.

use std::sync::mpsc::sync_channel;

use rusqlite::Connection;

use super::clocks::UnsavedClocks;
use super::envelope::Envelope;
use super::truth::{Moment, changed_count, changed_since, count_live, each_live, live_dongle, moment};
use crate::engine::codebook::{Fresh, Keeper, Roster, RosterBuilder};
use crate::engine::time::{SlotLength, UnixMs};

/// Changed dongles that are asked for at a time.
const CHANGED_EACH: usize = 1000;

/// One changed dongle in so many, and reading them all in order is cheaper than looking up each.
const READ_ALL_FROM: usize = 4;

/// Fewer changed dongles than this are always looked up one by one: some tenths of a second.
const LOOK_UP_MIN: usize = 50_000;

pub(super) struct Fleet {
    pub(super) keeper: Keeper,
    /// Every change of the truth up to this moment is in the keeper.
    pub(super) as_of: Moment,
}

impl Fleet {
    /// The dongles as they were at that moment, and no codes of them yet.
    pub(super) fn of(slot: SlotLength, roster: Roster, as_of: Moment) -> Fleet {
        Fleet { keeper: Keeper::new(slot, roster), as_of }
    }

    pub(super) fn read(slot: SlotLength, db: &Connection, envelope: &Envelope) -> rusqlite::Result<Fleet> {
        let (roster, as_of) = at_one_moment(db, || read_all(db, envelope, &UnsavedClocks::default()))?;
        Ok(Fleet::of(slot, roster, as_of))
    }

    /// Takes over what changed in the truth since it was last asked, and has it in the table at once. `false` when nothing
    /// did that the codebook shows.
    pub(super) fn catch_up(
        &mut self,
        db: &Connection,
        envelope: &Envelope,
        unsaved: &UnsavedClocks,
    ) -> rusqlite::Result<bool> {
        at_one_moment(db, || {
            let limit = LOOK_UP_MIN.max(self.keeper.len() / READ_ALL_FROM).min(self.keeper.room());
            if changed_count(db, self.as_of.revision, limit + 1)? > limit {
                let (roster, as_of) = read_all(db, envelope, unsaved)?;
                self.keeper.replace(roster);
                self.as_of = as_of;
                return Ok(true);
            }
            self.look_up_changed(db, envelope, unsaved)
        })
    }

    fn look_up_changed(
        &mut self,
        db: &Connection,
        envelope: &Envelope,
        unsaved: &UnsavedClocks,
    ) -> rusqlite::Result<bool> {
        let (mut since, mut has_changed) = (self.as_of.revision, false);
        loop {
            let changed = changed_since(db, since, CHANGED_EACH)?;
            for (revision, device) in &changed {
                let dongle = live_dongle(db, envelope, *device)?.map(|dongle| unsaved.applied_to(dongle));
                has_changed |= self.keeper.change(*device, dongle);
                since = *revision;
            }
            if changed.len() < CHANGED_EACH {
                self.as_of = moment(db)?;
                return Ok(has_changed);
            }
        }
    }
}

/// Rolls at once, the codes on that many threads: a start, when nobody waits for anything else.
pub fn roll_at_once(keeper: &mut Keeper, now: UnixMs, threads: usize) {
    keeper.begin_roll(now);
    while keeper.is_preparing() {
        keeper.step();
    }
    if threads > 1
        && let Some((shares, mut sink)) = keeper.shares(threads)
    {
        std::thread::scope(|scope| {
            let (tell, told) = sync_channel::<Vec<Fresh>>(2 * threads);
            for share in shares {
                let tell = tell.clone();
                scope.spawn(move || share.compute(|codes| tell.send(codes).expect("the sink takes all")));
            }
            drop(tell);
            for codes in told {
                sink.take(&codes);
            }
        });
    }
    while keeper.step() {}
}

fn read_all(db: &Connection, envelope: &Envelope, unsaved: &UnsavedClocks) -> rusqlite::Result<(Roster, Moment)> {
    let mut roster = RosterBuilder::new(count_live(db)?);
    each_live(db, envelope, |dongle| roster.push(&unsaved.applied_to(dongle)))?;
    Ok((roster.finish(), moment(db)?))
}

/// What is read within belongs together.
fn at_one_moment<T>(db: &Connection, read: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    db.execute_batch("BEGIN")?;
    let read = read();
    db.execute_batch("COMMIT")?;
    read
}
