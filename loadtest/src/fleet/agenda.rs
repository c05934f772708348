//! What happens when: trips and frames, each at its own millisecond.
//!
//! Trips are few and reach far, so a heap keeps them. Frames are hundreds of thousands a second and never further away
//! than a second, so each lies in the bucket of its millisecond and costs a push and a pop.

use std::{cmp::Reverse, collections::BinaryHeap};

use forecourt::engine::time::UnixMs;

use super::{CarId, Role, SiteId};

/// Buckets; a frame is scheduled less than this many milliseconds ahead.
const BUCKETS: usize = 2_048;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The next car of this kind comes to the station.
    Arrival(SiteId, Role),
    /// A customer looks for a free pump (again).
    Queue(CarId, SiteId),
    /// The car has driven in.
    Stop(CarId),
    /// The driver turns the engine off.
    EngineOff(CarId),
    /// The car leaves, if it is still on this visit.
    Leave(CarId, u32),
    /// The car is out of every receiver's reach.
    Gone(CarId),
    /// The car may come to the station again.
    Back(CarId, SiteId),
    /// Made-up codes on the air of a station.
    Flood(SiteId),
}

pub(super) struct Agenda {
    events: BinaryHeap<Reverse<(UnixMs, u64, Event)>>,
    /// Events of one millisecond happen in the order in which they were put down.
    written: u64,
    frames: Vec<Vec<CarId>>,
}

impl Agenda {
    pub(super) fn new() -> Agenda {
        Agenda { events: BinaryHeap::new(), written: 0, frames: vec![Vec::new(); BUCKETS] }
    }

    pub(super) fn at(&mut self, at: UnixMs, event: Event) {
        self.written += 1;
        self.events.push(Reverse((at, self.written, event)));
    }

    /// The next event up to `now`.
    pub(super) fn next_event(&mut self, now: UnixMs) -> Option<Event> {
        let Reverse((at, _, _)) = self.events.peek()?;
        if *at > now {
            return None;
        }
        self.events.pop().map(|Reverse((_, _, event))| event)
    }

    /// The car's next frame, less than two seconds ahead.
    pub(super) fn frame(&mut self, at: UnixMs, car: CarId) {
        self.frames[at.0 as usize % BUCKETS].push(car);
    }

    /// The cars whose frames are due in this millisecond; give the empty list back for its memory.
    pub(super) fn frames(&mut self, at: UnixMs) -> Vec<CarId> {
        std::mem::take(&mut self.frames[at.0 as usize % BUCKETS])
    }

    pub(super) fn give_back(&mut self, at: UnixMs, mut list: Vec<CarId>) {
        list.clear();
        let bucket = &mut self.frames[at.0 as usize % BUCKETS];
        list.append(bucket);
        *bucket = list;
    }
}
