//! Who may try: bounds on connections and on handshakes in flight, in all and per source.
//!
//! A handshake costs the server about a millisecond of signatures and the sender one packet, so it is what a flood
//! would spend. Under load an address must first show that it receives what is sent to it (a retry).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The bounds; their meaning is told at [`super::Config`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    pub(super) handshakes_per_source: usize,
    pub(super) retry_from: usize,
}

/// Why a newcomer is turned away before any handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Connections,
    Handshakes,
    Source,
}

impl Full {
    pub(super) const ALL: [Full; 3] = [Full::Connections, Full::Handshakes, Full::Source];

    pub(super) fn reason(self) -> &'static str {
        match self {
            Full::Connections => "connections",
            Full::Handshakes => "handshakes",
            Full::Source => "source_handshakes",
        }
    }
}

#[derive(Debug)]
pub(super) enum Verdict {
    Admit(Seat),
    /// Prove the address first.
    Retry,
    Refuse(Full),
}

#[derive(Debug, Clone)]
pub(super) struct Admission {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A place among the connections, and among the handshakes until [`Seat::settle`]. Freed when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    counts: Arc<Mutex<Counts>>,
    handshake_from: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Admission {
        Admission { limits, counts: Arc::default() }
    }

    /// `validated`: the address has shown that it receives what is sent to it.
    pub(super) fn decide(&self, address: IpAddr, validated: bool) -> Verdict {
        let source = source_of(address);
        let mut counts = lock(&self.counts);
        let from_source = counts.sources.get(&source).copied().unwrap_or_default();
        if counts.connections >= self.limits.connections {
            return Verdict::Refuse(Full::Connections);
        }
        if counts.handshakes >= self.limits.handshakes {
            return Verdict::Refuse(Full::Handshakes);
        }
        if !validated && counts.handshakes >= self.limits.retry_from {
            return Verdict::Retry;
        }
        if from_source >= self.limits.handshakes_per_source {
            return Verdict::Refuse(Full::Source);
        }
        counts.connections += 1;
        counts.handshakes += 1;
        counts.sources.insert(source, from_source + 1);
        Verdict::Admit(Seat { counts: self.counts.clone(), handshake_from: Some(source) })
    }
}

impl Seat {
    /// The handshake, hello included, is over; the connection stays.
    pub(super) fn settle(&mut self) {
        if let Some(source) = self.handshake_from.take() {
            lock(&self.counts).end_handshake(source);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.settle();
        lock(&self.counts).connections -= 1;
    }
}

impl Counts {
    fn end_handshake(&mut self, source: IpAddr) {
        self.handshakes -= 1;
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// Counters stay usable after a panic elsewhere: each change of them is whole.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IPv6 customer owns a /64 at least, and could use a new address for every packet.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(Limits { connections: 4, handshakes: 3, handshakes_per_source: 2, retry_from: 2 })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn seat(verdict: Verdict) -> Seat {
        match verdict {
            Verdict::Admit(seat) => seat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_source_cannot_take_every_handshake() {
        let admission = admission();
        let _taken = [seat(admission.decide(address(1), true)), seat(admission.decide(address(1), true))];
        assert!(matches!(admission.decide(address(1), true), Verdict::Refuse(Full::Source)));
        seat(admission.decide(address(2), true));
    }

    #[test]
    fn under_load_an_address_proves_itself_first() {
        let admission = admission();
        let _taken = [seat(admission.decide(address(1), false)), seat(admission.decide(address(2), false))];
        assert!(matches!(admission.decide(address(3), false), Verdict::Retry));
        seat(admission.decide(address(3), true));
    }

    #[test]
    fn settled_connections_make_room_for_handshakes_until_all_places_are_taken() {
        let admission = admission();
        let mut seats = Vec::new();
        for last in 0..4 {
            let mut seat = seat(admission.decide(address(last), true));
            seat.settle();
            seats.push(seat);
        }
        assert!(matches!(admission.decide(address(9), true), Verdict::Refuse(Full::Connections)));
        seats.pop();
        seat(admission.decide(address(9), true));
    }

    #[test]
    fn a_source_that_is_done_leaves_nothing_behind() {
        let admission = admission();
        drop(seat(admission.decide(address(1), true)));
        let counts = lock(&admission.counts);
        assert!(counts.sources.is_empty() && counts.connections == 0 && counts.handshakes == 0);
    }

    #[test]
    fn addresses_of_one_ipv6_customer_are_one_source() {
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| source_of(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], source_of("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(source_of("::ffff:10.0.0.1".parse().unwrap()), address(1));
    }
}
