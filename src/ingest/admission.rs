//! Who may try: bounds on connections, on handshakes in flight, and on newcomers that wait for theirs.
//!
//! A handshake costs the server about a millisecond of signatures and the sender one packet, so it is what a flood
//! would spend. Under load an address must first show that it receives what is sent to it (a retry).

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Config, waiting::Waiting};

/// The bounds; their meaning is told at [`super::Config`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    pub(super) waiting: usize,
    pub(super) waiting_per_source: usize,
    pub(super) retry_from: usize,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Limits {
        Limits {
            connections: config.connections_max,
            handshakes: config.handshakes_max,
            waiting: config.waiting_max,
            waiting_per_source: config.waiting_per_source_max,
            retry_from: config.retry_from,
        }
    }
}

/// Why a newcomer is turned away before any handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    Waiting,
    Source,
}

impl Full {
    pub(super) const ALL: [Full; 3] = [Full::Connections, Full::Waiting, Full::Source];

    pub(super) fn reason(self) -> &'static str {
        match self {
            Full::Connections => "connections",
            Full::Waiting => "waiting",
            Full::Source => "source_waiting",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait for a handshake; perhaps not at all.
    Wait,
    /// Prove the address first.
    Retry,
    Refuse(Full),
}

/// All clones are one.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    hall: Arc<Hall>,
}

#[derive(Debug, Default)]
struct Hall {
    counts: Mutex<Counts>,
    /// A place has become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    limits: Limits,
    connections: usize,
    handshakes: usize,
}

/// A place among the connections, and among the handshakes until [`Seat::settle`]. Freed when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hall: Arc<Hall>,
    is_settled: bool,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Admission {
        let counts = Counts { limits, ..Counts::default() };
        Admission { hall: Arc::new(Hall { counts: Mutex::new(counts), freed: Notify::new() }) }
    }

    /// From now on. Who is in already stays, also past a lower bound.
    pub(super) fn set(&self, limits: Limits) {
        self.hall.counts().limits = limits;
        self.hall.freed.notify_one();
    }

    /// `validated`: the address has shown that it receives what is sent to it.
    pub(super) fn decide<T>(&self, source: IpAddr, validated: bool, waiting: &Waiting<T>) -> Verdict {
        let counts = self.hall.counts();
        let limits = counts.limits;
        if counts.connections + waiting.count() >= limits.connections {
            return Verdict::Refuse(Full::Connections);
        }
        if waiting.count() >= limits.waiting {
            return Verdict::Refuse(Full::Waiting);
        }
        if !validated && counts.handshakes + waiting.count() >= limits.retry_from {
            return Verdict::Retry;
        }
        if waiting.count_of(source) >= limits.waiting_per_source {
            return Verdict::Refuse(Full::Source);
        }
        Verdict::Wait
    }

    /// A place for one more handshake, if there is one.
    pub(super) fn seat(&self) -> Option<Seat> {
        let mut counts = self.hall.counts();
        if counts.connections >= counts.limits.connections || counts.handshakes >= counts.limits.handshakes {
            return None;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        Some(Seat { hall: self.hall.clone(), is_settled: false })
    }

    /// Comes back when a place may have become free.
    pub(super) async fn freed(&self) {
        self.hall.freed.notified().await;
    }
}

impl Seat {
    /// The handshake, hello included, is over; the connection stays.
    pub(super) fn settle(&mut self) {
        if !std::mem::replace(&mut self.is_settled, true) {
            self.hall.counts().handshakes -= 1;
            self.hall.freed.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.settle();
        self.hall.counts().connections -= 1;
    }
}

impl Hall {
    /// Counters stay usable after a panic elsewhere: each change of them is whole.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let limits = Limits { connections: 6, handshakes: 2, waiting: 4, waiting_per_source: 2, retry_from: 2 };
        Admission::new(limits)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn waiting(sources: &[u8]) -> Waiting<()> {
        let mut waiting = Waiting::new();
        for &last in sources {
            waiting.push(address(last), ());
        }
        waiting
    }

    #[test]
    fn one_source_cannot_take_every_place_of_those_who_wait() {
        let (admission, waiting) = (admission(), waiting(&[1, 1]));
        assert_eq!(admission.decide(address(1), true, &waiting), Verdict::Refuse(Full::Source));
        assert_eq!(admission.decide(address(2), true, &waiting), Verdict::Wait);
    }

    #[test]
    fn under_load_an_address_proves_itself_first() {
        let admission = admission();
        let _taken = [admission.seat(), admission.seat()];
        assert_eq!(admission.decide(address(3), false, &waiting(&[])), Verdict::Retry);
        assert_eq!(admission.decide(address(3), true, &waiting(&[])), Verdict::Wait);
        assert_eq!(admission.decide(address(3), true, &waiting(&[1, 1, 2, 2])), Verdict::Refuse(Full::Connections));
    }

    #[test]
    fn settled_connections_make_room_for_handshakes_until_all_places_are_taken() {
        let admission = admission();
        let mut seats = Vec::new();
        for _ in 0..6 {
            let mut seat = admission.seat().unwrap();
            seat.settle();
            seats.push(seat);
        }
        assert!(admission.seat().is_none());
        seats.pop();
        let last = admission.seat().unwrap();
        assert_eq!(admission.hall.counts().handshakes, 1);
        drop((last, seats));
        let counts = admission.hall.counts();
        assert_eq!((counts.connections, counts.handshakes), (0, 0));
    }

    #[test]
    fn other_bounds_hold_for_newcomers_and_send_nobody_away() {
        let admission = admission();
        let seats = [admission.seat().unwrap(), admission.seat().unwrap()];
        let limits = Limits { connections: 1, handshakes: 9, waiting: 4, waiting_per_source: 2, retry_from: 2 };
        admission.set(limits);
        assert!(admission.seat().is_none());
        admission.set(Limits { connections: 3, ..limits });
        assert!(admission.seat().is_some());
        assert_eq!(admission.hall.counts().connections, seats.len());
    }

    #[test]
    fn only_so_many_handshakes_are_in_flight() {
        let admission = admission();
        let mut seats = [admission.seat().unwrap(), admission.seat().unwrap()];
        assert!(admission.seat().is_none());
        seats[0].settle();
        assert!(admission.seat().is_some());
    }
}
