//! The one thread that writes: jobs queue up while a commit waits for the disk, and the next commit takes them all.
//!
//! Each job runs in its own savepoint, so that a refused one takes nothing of the others with it. Answers, and what a
//! change sets off, come after the commit and in its order.

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::moment::{Moment, moment};
use crate::engine::time::UnixMs;
use crate::telemetry::{queue::Queue, yield_to_others};

/// What a job leaves to do once the group's fate is known: `true` when it is on the disk.
pub(super) type Settle = Box<dyn FnOnce(bool) + Send>;

/// A job answers whether its own changes stay, and what is to be done after the commit. Without a connection it has
/// only to say so.
pub(super) type Job = Box<dyn FnOnce(Option<&Connection>) -> (bool, Settle) + Send>;

pub(super) enum Order {
    /// With the time from which it waits.
    Run(UnixMs, Job),
    Stop,
}

/// Bounds the time of a commit, and so the wait of the first job in it.
const GROUP_MAX: usize = 256;

/// Behind the stations, which run at 5: what is written in bulk, by an import or of learned clocks, holds up no frames.
/// Beside a station's thread that never rests it gets a quarter of the core.
const NICENESS: i32 = 10;

/// Runs until told to stop or until nobody can order any more. `committed` learns the moment of each commit.
pub(super) fn run(
    db: &Connection,
    orders: &mut mpsc::Receiver<Order>,
    committed: &watch::Sender<Moment>,
    waiting: &Queue,
) {
    yield_to_others(NICENESS);
    while let Some(order) = orders.blocking_recv() {
        let mut group = Vec::new();
        let mut next = Some(order);
        let mut is_stopping = false;
        while let Some(order) = next {
            match order {
                Order::Run(since, job) => {
                    if group.is_empty() {
                        waiting.began(since, orders.len());
                    }
                    group.push(job);
                }
                Order::Stop => {
                    orders.close();
                    is_stopping = true;
                }
            }
            next = if group.len() < GROUP_MAX { orders.try_recv().ok() } else { None };
        }
        commit(db, group, committed);
        waiting.ended();
        if is_stopping {
            while let Some(Order::Run(_, job)) = orders.blocking_recv() {
                commit(db, vec![job], committed);
            }
            return;
        }
    }
}

fn commit(db: &Connection, group: Vec<Job>, moments: &watch::Sender<Moment>) {
    if group.is_empty() {
        return;
    }
    let begun = db.execute_batch("BEGIN IMMEDIATE");
    let open = begun.is_ok().then_some(db);
    let settles: Vec<Settle> = group.into_iter().map(|job| in_savepoint(open, job)).collect();
    let committed = begun.and_then(|()| db.execute_batch("COMMIT"));
    if let Err(error) = &committed {
        tracing::error!(%error, "registrations.db refused a commit");
        if open.is_some()
            && let Err(error) = db.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "registrations.db refused a rollback");
        }
    }
    tell(db, moments);
    for settle in settles {
        settle(committed.is_ok());
    }
}

/// Before anybody is answered: who hears that his change is in effect meets no copy that is believed without it.
fn tell(db: &Connection, moments: &watch::Sender<Moment>) {
    match moment(db) {
        Ok(now) => drop(moments.send_if_modified(|known| std::mem::replace(known, now) != now)),
        Err(error) => tracing::error!(%error, "the moment of registrations.db cannot be read"),
    }
}

/// Without its savepoint a job is not run: what it wrote could not be told from what its neighbours wrote.
fn in_savepoint(open: Option<&Connection>, job: Job) -> Settle {
    let Some(db) = open.filter(|db| db.execute_batch("SAVEPOINT job").is_ok()) else {
        return job(None).1;
    };
    let (keeps, settle) = job(Some(db));
    let end = if keeps { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    if let Err(error) = db.execute_batch(end) {
        tracing::error!(%error, "registrations.db refused to end a savepoint");
    }
    settle
}
