//! Which of the vehicles present is the one that the attendant means.

use std::cmp::Reverse;

use super::{
    id::{DeviceId, PumpNumber},
    plate::{Fit, Plate, Query},
    presence::Seen,
};

/// A vehicle that could be meant.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub seen: Seen,
    pub plate: &'a Plate,
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    Nobody,
    /// Exactly one fits, or exactly one is the whole plate (a plate is registered once).
    One(DeviceId),
    /// Several fit: never picked by us. The likeliest first.
    Several(Vec<DeviceId>),
}

/// Picks by plate; `pump` is where the attendant stands, if known.
pub fn pick(query: &Query, pump: Option<PumpNumber>, candidates: &[Candidate<'_>]) -> Pick {
    let fits = candidates.iter().filter_map(|candidate| Some((candidate.plate.fit(query)?, candidate.seen)));
    let mut fits: Vec<(Fit, Seen)> = fits.collect();
    fits.sort_by_key(|(fit, seen)| rank(*fit, seen, pump));
    match fits.as_slice() {
        [] => Pick::Nobody,
        [(_, only)] => Pick::One(only.device),
        [(Fit::Whole, first), (second, _), ..] if *second != Fit::Whole => Pick::One(first.device),
        several => Pick::Several(several.iter().map(|(_, seen)| seen.device).collect()),
    }
}

/// Smaller is likelier: a better fit, then the asked pump, then the better heard, then the later heard.
fn rank(fit: Fit, seen: &Seen, pump: Option<PumpNumber>) -> impl Ord + use<> {
    let elsewhere = pump.is_some() && seen.pump != pump;
    let level = seen.strongest.map(|(_, dbm)| dbm);
    (fit, elsewhere, Reverse(level), Reverse(seen.last), seen.device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{id::ReceiverId, presence::State, time::UnixMs};

    fn seen(device: u64, pump: u16, dbm: i8) -> Seen {
        Seen {
            device: DeviceId(device),
            state: State::Present,
            pinned: false,
            entered: UnixMs(0),
            last: UnixMs(0),
            hearings: 9,
            strongest: Some((ReceiverId(0), dbm)),
            pump: Some(PumpNumber(pump)),
        }
    }

    fn ask(query: &str, pump: Option<u16>, cars: &[(&str, u16, i8)]) -> Pick {
        let plates: Vec<Plate> = cars.iter().map(|(plate, ..)| Plate::parse(plate).unwrap()).collect();
        let candidates: Vec<_> = (cars.iter().zip(&plates).enumerate())
            .map(|(device, (&(_, pump, dbm), plate))| Candidate { seen: seen(device as u64, pump, dbm), plate })
            .collect();
        pick(&Query::parse(query).unwrap(), pump.map(PumpNumber), &candidates)
    }

    #[test]
    fn one_fit_is_picked() {
        assert_eq!(ask("3456", None, &[("12가3456", 1, -60), ("12가9999", 2, -50)]), Pick::One(DeviceId(0)));
        assert_eq!(ask("0000", None, &[("12가3456", 1, -60)]), Pick::Nobody);
    }

    #[test]
    fn several_fits_are_ranked_and_never_picked() {
        let cars = [("12가3456", 1, -50), ("98나3456", 2, -70), ("34561", 2, -40)];
        let ranked = |order: [u64; 3]| Pick::Several(order.map(DeviceId).into());
        assert_eq!(ask("3456", None, &cars), ranked([0, 1, 2]), "the end before the inside, the better heard first");
        assert_eq!(ask("3456", Some(2), &cars), ranked([1, 0, 2]), "the asked pump first");
    }

    #[test]
    fn a_whole_plate_is_picked_from_among_longer_ones() {
        assert_eq!(ask("12가3456", None, &[("312가3456", 1, -40), ("12가3456", 2, -70)]), Pick::One(DeviceId(1)));
    }
}
