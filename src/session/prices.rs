//! The stations' unit prices, and the last ones before them: who began to fuel before a change pays the old price.

use std::collections::{HashMap, VecDeque};

use super::{Error, GradePrice, Prices, Quote, Request};
use crate::{
    engine::{id::StationId, money::Currency, session::GRADE_BYTES_MAX, time::UnixMs},
    ledger::{self, Entry, Kind},
};

/// Grades of one station.
const GRADES_MAX: usize = 32;

/// Price requests remembered per station.
const REQUESTS_MAX: usize = 8;

const FORMAT: u16 = 1;

#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PricesSet {
    pub prices: Prices,
    pub request: Request,
}

#[derive(Debug, Default)]
pub struct PriceBoard {
    stations: HashMap<StationId, Board>,
}

#[derive(Debug)]
struct Board {
    now: Prices,
    /// What stood before, until when.
    before: Option<(Prices, UnixMs)>,
    requests: VecDeque<Request>,
}

impl PriceBoard {
    /// Whether prices may be set: `false` for a repetition.
    pub fn check(&self, station: StationId, set: &PricesSet) -> Result<bool, Error> {
        let grades = &set.prices.grades;
        if grades.len() > GRADES_MAX {
            return Err(Error::Invalid("a station has at most 32 grades"));
        }
        if grades.iter().any(|grade| grade.grade.is_empty() || grade.grade.len() > GRADE_BYTES_MAX) {
            return Err(Error::Invalid("a grade has 1 to 64 bytes"));
        }
        if grades.iter().any(|grade| grade.unit_price_milli <= 0) {
            return Err(Error::Invalid("a unit price is more than nothing"));
        }
        let named_before =
            |(place, grade): (usize, &GradePrice)| grades[..place].iter().any(|other| other.is_for(&grade.grade));
        if grades.iter().enumerate().any(named_before) {
            return Err(Error::Invalid("a grade has one price"));
        }
        let mut requests = self.stations.get(&station).into_iter().flat_map(|board| &board.requests);
        match requests.find(|known| known.key == set.request.key) {
            Some(known) if known.body != set.request.body => Err(Error::KeyReused),
            known => Ok(known.is_none()),
        }
    }

    pub fn set(&mut self, station: StationId, set: PricesSet, at: UnixMs) {
        let old = self.stations.remove(&station);
        let mut requests = old.as_ref().map(|board| board.requests.clone()).unwrap_or_default();
        if requests.len() == REQUESTS_MAX {
            requests.pop_front();
        }
        requests.push_back(set.request);
        let before = old.map(|board| (board.now, at));
        self.stations.insert(station, Board { now: set.prices, before, requests });
    }

    /// Whether a reservation's price is the station's at present.
    pub(super) fn agrees_now(&self, station: StationId, quote: &Quote) -> bool {
        self.agrees(station, &quote.grade, quote.unit_price_milli, None, UnixMs(u64::MAX))
    }

    /// Whether `price` is or was the station's for the grade at some time since `since`. A grade without a price, or
    /// a station without any, is not checked.
    pub(super) fn agrees(
        &self,
        station: StationId,
        grade: &str,
        price: i64,
        currency: Option<Currency>,
        since: UnixMs,
    ) -> bool {
        let Some(board) = self.stations.get(&station) else { return true };
        let fits = |prices: &Prices| {
            let set = prices.grades.iter().find(|set| set.is_for(grade));
            set.is_none_or(|set| set.unit_price_milli == price)
                && currency.is_none_or(|currency| currency == prices.currency)
        };
        fits(&board.now) || board.before.as_ref().is_some_and(|(before, until)| *until >= since && fits(before))
    }
}

impl GradePrice {
    fn is_for(&self, grade: &str) -> bool {
        self.grade.eq_ignore_ascii_case(grade)
    }
}

impl PricesSet {
    pub fn entry(&self, station: StationId, at: UnixMs) -> Entry {
        let subject = station.0.to_be_bytes().to_vec();
        Entry { at, kind: Kind::Prices, subject, format: FORMAT, payload: ledger::encode(self) }
    }

    /// Of an entry of another program's making, nothing.
    pub fn read(entry: &Entry) -> Option<(StationId, PricesSet)> {
        let station = StationId(u32::from_be_bytes(entry.subject.as_slice().try_into().ok()?));
        let set = ledger::decode(&entry.payload).ok().filter(|_| entry.format == FORMAT)?;
        Some((station, set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATION: StationId = StationId(1);

    fn set(price: i64, key: u8) -> PricesSet {
        let grades = vec![GradePrice { grade: "Diesel".into(), unit_price_milli: price }];
        let prices = Prices { currency: "KRW".parse().unwrap(), grades };
        PricesSet { prices, request: Request { key: [key; 32], body: [key; 32] } }
    }

    #[test]
    fn a_session_that_began_before_a_change_may_pay_the_old_price() {
        let mut board = PriceBoard::default();
        board.set(STATION, set(1_700, 1), UnixMs(10));
        board.set(STATION, set(1_800, 2), UnixMs(20));
        let agrees = |price, since| board.agrees(STATION, "diesel", price, None, UnixMs(since));
        assert!(agrees(1_800, 30) && agrees(1_700, 15));
        assert!(!agrees(1_700, 30) && !agrees(1_900, 15));
    }

    #[test]
    fn a_grade_has_one_price() {
        let mut twice = set(1_700, 1);
        twice.prices.grades.push(GradePrice { grade: "DIESEL".into(), unit_price_milli: 1_800 });
        assert!(matches!(PriceBoard::default().check(STATION, &twice), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_repeated_request_is_known_and_a_key_with_another_body_refused() {
        let mut board = PriceBoard::default();
        assert_eq!(board.check(STATION, &set(1_700, 1)), Ok(true));
        board.set(STATION, set(1_700, 1), UnixMs(10));
        assert_eq!(board.check(STATION, &set(1_700, 1)), Ok(false));
        let mut other = set(1_700, 1);
        other.request.body = [9; 32];
        assert_eq!(board.check(STATION, &other), Err(Error::KeyReused));
    }
}
