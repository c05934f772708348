//! Where each code is kept: an open-addressed table of 64-byte lines with four codes each. A look-up, hit or miss, reads
//! one line.
//!
//! A code that finds its line full goes on to the three beside it, which the same page of memory has, and then to lines all
//! over the table; each line that it passed keeps a mark for such as it, so that what was never sent on is not looked for
//! elsewhere. In a table made for its codes a line in three has sent one on when it went through some rolls, and a code in
//! six lies elsewhere.
//!
//! One thread writes while others look up. Entries are put in and taken out, and none is moved. A roll goes once through
//! the lines and takes out what is over, with the marks that it left, and then puts the codes of one slot in: marks are
//! never older than three slots.

use std::ops::Range;

use prefetch_index::prefetch_index;

use super::Hit;
use super::entry::{Fingerprint, Hash, Word};
use super::line::{Line, Lines, PLACES, empty_place, place_of};
use super::moment::Turn;
use crate::engine::code::Code;
use crate::engine::id::DeviceId;

/// Codes for each 100 places when a table is made: 73.8 bytes for a dongle's three.
const CODES_PER_100: usize = 65;

/// Codes for each 100 places at most.
const CODES_PER_100_MAX: usize = 75;

/// A table that has fewer for each 100 than this is too large.
const CODES_PER_100_MIN: usize = 55;

/// A table that has more when a roll begins is too small: newcomers would find no room before the next.
const CODES_PER_100_FULL: usize = 70;

/// Codes that the smallest table is made for: room for newcomers of a chain that begins.
const CODES_MIN: usize = 3 << 16;

/// How often a code that finds its line full may go on. A code in six does, and each further line is full once in three
/// times: of 9e7 codes 1e-8 finds all of them full.
const DISTANCE_MAX: u32 = 31;

/// Lines that a code tries beside each other, its own among them. More of them are read than where each further one lies
/// anywhere, but on a page that the core has just found.
const BESIDE: u32 = 4;

/// Look-ups whose lines are asked for in a burst. With 30 million dongles a look-up took 31 ns so, 40 in bursts of 8, and 40
/// where each asks while another is compared: a core waits for the page tables with each prefetch, and the fewer
/// instructions lie between two of them, the more it waits for at a time. Bursts of more than 24 lines come to nothing.
const GROUP: usize = 16;

/// Where a code is looked for first, and what tells it from others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    home: u32,
    fingerprint: Fingerprint,
}

impl Spot {
    #[inline]
    pub(super) fn fingerprint(self) -> Fingerprint {
        self.fingerprint
    }
}

/// What the line says of a code.
#[derive(Clone, Copy)]
enum Glance {
    Is(Option<Hit>),
    /// It may be in the next.
    GoesOn,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    New,
    /// It was there; its word is the new one.
    Known,
    /// Another dongle has the code, or one that looks the same.
    Taken,
    /// All lines on its way are full.
    Full,
}

pub(super) struct Table {
    lines: Lines,
    count: usize,
    /// Tells it from the tables before and after it.
    edition: u8,
}

impl Table {
    /// A table that has no code, and is made for so many.
    pub(super) fn of(codes: usize, edition: u8) -> Table {
        Table::with_lines(edition, codes.max(CODES_MIN).div_ceil(PLACES * CODES_PER_100) * 100)
    }

    /// The smallest there is.
    pub(super) fn empty(edition: u8) -> Table {
        Table::with_lines(edition, BESIDE as usize)
    }

    /// So many that each line has the others beside it.
    fn with_lines(edition: u8, count: usize) -> Table {
        let count = count.next_multiple_of(BESIDE as usize);
        Table { lines: Lines::zeroed(count), count, edition }
    }

    /// Neither too small nor too large for so many codes.
    pub(super) fn fits(&self, codes: usize) -> bool {
        let filled = |percent| self.count * PLACES * percent / 100;
        (filled(CODES_PER_100_MIN)..=filled(CODES_PER_100_FULL)).contains(&codes.max(CODES_MIN))
    }

    pub(super) fn codes_max(&self) -> usize {
        self.count * PLACES * CODES_PER_100_MAX / 100
    }

    pub(super) fn edition(&self) -> u8 {
        self.edition
    }

    pub(super) fn lines(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.count * size_of::<Line>()
    }

    /// Has the memory of some lines.
    pub(super) fn touch(&self, lines: Range<usize>) {
        const LINES_PER_PAGE: usize = 4096 / size_of::<Line>();
        self.lines.all()[lines].iter().step_by(LINES_PER_PAGE).for_each(Line::touch);
    }

    /// Takes out of some lines what is of a turn.
    pub(super) fn expire(&self, lines: Range<usize>, turn: Turn) {
        self.lines.all()[lines].iter().for_each(|line| line.expire(turn));
    }

    #[inline]
    fn line(&self, line: u32) -> &Line {
        &self.lines.all()[line as usize]
    }

    #[inline]
    pub(super) fn spot(&self, code: &Code) -> Spot {
        let hash = Hash::of(code);
        Spot { home: ((u64::from(hash.line) * self.count as u64) >> 32) as u32, fingerprint: hash.fingerprint }
    }

    /// Asks the memory for a code's line.
    #[inline]
    pub(super) fn fetch(&self, spot: Spot) {
        prefetch_index(self.lines.all(), spot.home as usize);
    }

    /// Asks the memory for the line beside it, where a code may go on to that or have gone.
    #[inline]
    pub(super) fn fetch_on(&self, spot: Spot) {
        let line = self.line(spot.home);
        if line.has_passed(spot.fingerprint) || empty_place(&line.words()).is_none() {
            prefetch_index(self.lines.all(), (spot.home ^ 1) as usize);
        }
    }

    /// The lines of a code, by how often it went on: its own, those beside it, and others all over the table.
    fn line_at(&self, spot: Spot, distance: u32) -> u32 {
        if distance < BESIDE {
            return spot.home ^ distance;
        }
        ((u64::from(spot.home) + self.way(spot.fingerprint, distance)) % self.count as u64) as u32
    }

    /// Strides of one length, each a line longer than the one before: equal ones might meet the same few lines again.
    fn way(&self, fingerprint: Fingerprint, distance: u32) -> u64 {
        let (count, strides) = (self.count as u64, u64::from(distance + 1 - BESIDE));
        let stride = (u64::from(fingerprint.stride()) * count) >> 32;
        (stride * strides + strides * (strides + 1) / 2) % count
    }

    #[inline]
    pub(super) fn find(&self, code: &Code) -> Option<Hit> {
        self.find_from(self.spot(code), 0)
    }

    #[inline]
    fn read(&self, line: &Line, spot: Spot) -> Option<Hit> {
        let (device, phase) = line.read(spot.fingerprint)?;
        Some(Hit { device, phase, edition: self.edition })
    }

    /// Goes on with the lines from one on.
    fn find_from(&self, spot: Spot, distance: u32) -> Option<Hit> {
        for distance in distance..=DISTANCE_MAX {
            let line = self.line(self.line_at(spot, distance));
            let hit = self.read(line, spot);
            if hit.is_some() || !line.has_passed(spot.fingerprint) {
                return hit;
            }
        }
        None
    }

    /// Tells of each code, by its number, what was found. While a group of them is compared, the memory brings the lines of
    /// the next; those that may have gone on to another line come a group later than the others.
    #[inline]
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<Hit>)) {
        let mut spots = [[Spot::default(); GROUP]; 2];
        let mut late = [(0, Spot::default()); GROUP];
        let mut late_count = 0;
        let group = |nth: usize| asked.get(nth * GROUP..asked.len().min((nth + 1) * GROUP)).unwrap_or_default();
        for stage in 0..asked.len().div_ceil(GROUP) + 2 {
            let asked = group(stage);
            asked.iter().zip(&mut spots[stage % 2]).for_each(|(code, spot)| *spot = self.spot(code));
            spots[stage % 2][..asked.len()].iter().for_each(|spot| self.fetch(*spot));
            late[..late_count].iter().for_each(|(nth, spot)| tell(*nth, self.find_from(*spot, 1)));
            late_count = 0;
            let Some(last) = stage.checked_sub(1) else { continue };
            for (nth, spot) in (last * GROUP..).zip(&spots[last % 2][..group(last).len()]) {
                match self.glance(*spot) {
                    Glance::Is(hit) => tell(nth, hit),
                    Glance::GoesOn => {
                        late[late_count] = (nth, *spot);
                        late_count += 1;
                    }
                }
            }
        }
    }

    /// What a code's own line says. When that may not be all, the memory is asked for the next.
    #[inline]
    fn glance(&self, spot: Spot) -> Glance {
        let line = self.line(spot.home);
        let hit = self.read(line, spot);
        if hit.is_none() && line.has_passed(spot.fingerprint) {
            prefetch_index(self.lines.all(), (spot.home ^ 1) as usize);
            return Glance::GoesOn;
        }
        Glance::Is(hit)
    }

    /// For the one who writes: an entry, or another word for one that is there.
    #[inline]
    pub(super) fn put(&self, spot: Spot, word: Word, device: DeviceId) -> Put {
        let line = self.line(spot.home);
        let words = line.words();
        if let Some(place) = empty_place(&words)
            && place_of(&words, spot.fingerprint).is_none()
            && !line.has_passed(spot.fingerprint)
        {
            line.put(place, word, device);
            return Put::New;
        }
        self.put_on(spot, word, device)
    }

    /// The same where the code's own line is full, or has one that looks alike, or sent one on.
    fn put_on(&self, spot: Spot, word: Word, device: DeviceId) -> Put {
        let (mut empty, mut goes_on) = (None, true);
        for distance in 0..=DISTANCE_MAX {
            let line = self.line(self.line_at(spot, distance));
            let words = line.words();
            if let Some(place) = place_of(&words, spot.fingerprint) {
                if line.device(place) != device {
                    return Put::Taken;
                }
                self.put_at(spot, distance, place, word, device);
                return Put::Known;
            }
            empty = empty.or_else(|| Some((distance, empty_place(&words)?)));
            goes_on &= line.has_passed(spot.fingerprint);
            if let Some((distance, place)) = empty
                && !goes_on
            {
                self.put_at(spot, distance, place, word, device);
                return Put::New;
            }
        }
        Put::Full
    }

    fn put_at(&self, spot: Spot, distance: u32, place: usize, word: Word, device: DeviceId) {
        self.line(self.line_at(spot, distance)).put(place, word, device);
        // Whoever looks it up passes these: not before it is there, or a reader would pay for nothing.
        (0..distance).for_each(|before| self.line(self.line_at(spot, before)).pass(word));
    }

    /// Where an entry with this fingerprint is: its line, and its place there.
    fn place_of(&self, spot: Spot) -> Option<(&Line, usize)> {
        for distance in 0..=DISTANCE_MAX {
            let line = self.line(self.line_at(spot, distance));
            if let Some(place) = place_of(&line.words(), spot.fingerprint) {
                return Some((line, place));
            }
            if !line.has_passed(spot.fingerprint) {
                return None;
            }
        }
        None
    }

    /// Takes a dongle's code out, and tells whether it was there.
    pub(super) fn remove(&self, code: &Code, device: DeviceId) -> bool {
        let Some((line, place)) = self.place_of(self.spot(code)) else { return false };
        let is_its = line.device(place) == device;
        if is_its {
            line.clear(place);
        }
        is_its
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Phase, Slot};
    use super::*;

    fn code_of(nth: u64) -> Code {
        let halves = [nth.wrapping_mul(0xD134_2543_DE82_EF95).to_le_bytes(), nth.to_le_bytes()];
        Code(halves.as_flattened().try_into().unwrap())
    }

    fn put(table: &Table, nth: u64) -> Put {
        let spot = table.spot(&code_of(nth));
        table.put(spot, Word::of(spot.fingerprint, Phase::of(Slot(nth)), None), DeviceId(nth))
    }

    fn lines_of_a_miss(table: &Table, strangers: Range<u64>) -> f64 {
        let count = strangers.end - strangers.start;
        let reads = |nth: u64| {
            let spot = table.spot(&code_of(nth));
            let goes_on = |distance: &u32| table.line(table.line_at(spot, *distance)).has_passed(spot.fingerprint);
            1 + (0..DISTANCE_MAX).take_while(goes_on).count()
        };
        strangers.map(reads).sum::<usize>() as f64 / count as f64
    }

    #[test]
    fn a_table_that_is_as_full_as_it_gets_finds_all_and_reads_little_more_than_a_line() {
        let table = Table::of(0, 5);
        let (made_for, most) = (CODES_MIN as u64, table.codes_max() as u64);
        assert!((0..made_for).all(|nth| put(&table, nth) == Put::New));
        let lines = lines_of_a_miss(&table, most..2 * most);
        assert!(lines < 1.16, "{lines} lines a miss when it was made");
        assert!((made_for..most).all(|nth| put(&table, nth) == Put::New));
        let hit = |nth| Some(Hit { device: DeviceId(nth), phase: Phase::of(Slot(nth)), edition: 5 });
        assert!((0..most).all(|nth| table.find(&code_of(nth)) == hit(nth)));
        assert!((most..2 * most).all(|nth| table.find(&code_of(nth)).is_none()));
        let lines = lines_of_a_miss(&table, most..2 * most);
        assert!(lines < 1.35, "{lines} lines a miss when it is full");
    }

    /// At 65 % nobody of 30 million dongles is to be left out, and there is room for newcomers until 75.
    #[test]
    fn no_code_is_without_a_place_before_the_table_is_nearly_full() {
        let table = Table::of(0, 5);
        let places = table.lines() as u64 * PLACES as u64;
        let taken = (0..places).take_while(|nth| put(&table, *nth) == Put::New).count() as u64;
        assert!(taken * 100 >= places * 88, "{taken} of {places}");
    }

    #[test]
    fn what_is_over_goes_from_a_full_table_with_its_marks_and_the_rest_is_found_where_it_is() {
        const RENEWED: u64 = 3;
        let table = Table::of(0, 5);
        let codes = table.codes_max() as u64;
        let put = |nth: u64| {
            let (spot, turn) = (table.spot(&code_of(nth)), (nth % 4 != RENEWED).then_some(Turn((nth % 4) as u8)));
            table.put(spot, Word::of(spot.fingerprint, Phase::of(Slot(nth)), turn), DeviceId(nth))
        };
        let all = |rest: u64| (rest..codes).step_by(4);
        let is_there =
            |rest: u64| all(rest).filter(|nth| table.find(&code_of(*nth)).is_some()).count() == all(rest).count();
        assert!((0..codes).all(|nth| put(nth) == Put::New));
        for turn in [0, 1, 2, 0, 1, 2] {
            table.expire(0..table.lines(), Turn(turn as u8));
            assert!(all(turn).all(|nth| table.find(&code_of(nth)).is_none()), "of turn {turn}");
            assert!((0..4).all(|rest| rest == turn || is_there(rest)), "other than those of turn {turn}");
            assert!(all(turn).all(|nth| put(nth) == Put::New) && all(RENEWED).all(|nth| put(nth) == Put::Known));
        }
        assert!(all(RENEWED).all(|nth| table.remove(&code_of(nth), DeviceId(nth))));
        (0..3).for_each(|turn| table.expire(0..table.lines(), Turn(turn)));
        let is_bare = |line: &Line| line.words().iter().all(|word| *word == Word(0));
        assert!(table.lines.all().iter().all(is_bare), "no mark is left");
    }

    #[test]
    fn what_is_removed_is_gone_and_what_passed_its_line_is_found_still() {
        let table = Table::empty(5);
        let taken = (0..100).take_while(|nth| put(&table, *nth) == Put::New).count() as u64;
        assert_eq!((taken, put(&table, taken)), (u64::from(BESIDE) * PLACES as u64, Put::Full));
        for nth in 0..taken {
            assert!(!table.remove(&code_of(nth), DeviceId(nth + 1)), "another dongle's");
            assert!(table.remove(&code_of(nth), DeviceId(nth)) && !table.remove(&code_of(nth), DeviceId(nth)));
            assert!((0..taken).all(|other| table.find(&code_of(other)).is_some() == (other > nth)));
        }
    }

    #[test]
    fn a_code_that_another_dongle_has_is_taken_and_its_own_is_known() {
        let table = Table::of(0, 5);
        let spot = table.spot(&code_of(1));
        let word = |slot| Word::of(spot.fingerprint, Phase::of(Slot(slot)), None);
        let put = |slot, device| table.put(spot, word(slot), DeviceId(device));
        assert_eq!([put(1, 7), put(2, 8), put(3, 7)], [Put::New, Put::Taken, Put::Known]);
        assert_eq!(table.find(&code_of(1)), Some(Hit { device: DeviceId(7), phase: Phase::of(Slot(3)), edition: 5 }));
    }
}
