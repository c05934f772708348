//! Where each code is kept: an open-addressed table of 64-byte lines with four codes each. A look-up, hit or miss, reads
//! one line.
//!
//! A code that finds its line full goes on to the three beside it, which the same page of memory has, and then to fours all
//! over the table; each line that it passed keeps a mark for such as it, so that what was never sent on is not looked for
//! elsewhere. In a table made for its codes one in eleven lies elsewhere.
//!
//! One thread writes while others look up. A roll goes once through the lines and takes out what is over, with the marks
//! that it left, and what is left comes nearer to its own line where there is room now; then it puts the codes of one slot
//! in. Marks are never older than three slots.

use std::ops::Range;

use arrayvec::ArrayVec;
use prefetch_index::prefetch_index;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::entry::{Fingerprint, Hash, Word};
use super::four::{self, BESIDE};
use super::line::{Line, Lines, PLACES, empty_place, place_of};
use super::moment::Turn;
use super::{Hit, Phase};
use crate::engine::code::Code;
use crate::engine::id::DeviceId;
use crate::engine::time::Slot;

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

/// Lines that a code may come to, its own and those that it goes on to: sixteen fours. In a table as full as it gets 18 of
/// 100 fours are full: of 9e7 codes 1e-4 finds all of them so, and of a table that was made for them 1e-12.
const DISTANCES: u32 = 16 * BESIDE;

/// Codes whose lines are asked for together. The memory brings many lines at a time: of 4,096 look-ups in 30 million dongles
/// on a Zen 5 a hit took 10 ns so, and 21 in bursts of 16, one ahead; and 11 where each asks while another is compared, since
/// a branch that goes the wrong way loses the walks through the page tables that are under way.
const BURST: usize = 48;

/// Bursts that are asked for before the first of them is read.
const BURSTS_AHEAD: usize = 2;

/// Where a code is looked for first, and what tells it from others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    home: u32,
    fingerprint: Fingerprint,
}

/// A code on its way into the table.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Entry {
    home: u32,
    /// Of the dongle in the roster.
    row: u32,
    word: Word,
    device: u64,
}

impl Entry {
    #[inline]
    fn spot(&self) -> Spot {
        Spot { home: self.home, fingerprint: self.word.fingerprint() }
    }

    #[inline]
    pub(super) fn home(&self) -> usize {
        self.home as usize
    }

    #[inline]
    pub(super) fn row(&self) -> usize {
        self.row as usize
    }
}

/// What some lines say of a code.
#[derive(Clone, Copy)]
enum Glance {
    Is(Option<Hit>),
    /// It may be in those after these.
    GoesOn,
}

impl Glance {
    fn hit(self) -> Option<Hit> {
        match self {
            Glance::Is(hit) => hit,
            Glance::GoesOn => None,
        }
    }
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

impl Put {
    fn is_in(self) -> bool {
        matches!(self, Put::New | Put::Known)
    }
}

/// Of the bursts that all of these make the `nth`; empty where there is no such one.
fn burst<T>(all: &[T], nth: usize) -> &[T] {
    all.chunks(BURST).nth(nth).unwrap_or_default()
}

/// In stage `n` the `n`th burst is asked for, [`BURSTS_AHEAD`] later it is read, and what goes on has a stage at the lines
/// beside its own and one beyond. Each stage begins with those that went on farthest, so that what goes on finds its list
/// empty.
fn stages(len: usize) -> Range<usize> {
    0..len.div_ceil(BURST) + BURSTS_AHEAD + 2
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

    /// Takes out of some lines what is of a turn, and lets what is left come nearer to its own line where there is room now.
    /// They are whole fours.
    pub(super) fn expire(&self, lines: Range<usize>, turn: Turn) {
        let (fours, rest) = self.lines.all()[lines].as_chunks();
        debug_assert!(rest.is_empty(), "a roll goes through whole fours");
        for four in fours {
            four::expire(four, turn);
        }
    }

    #[inline]
    fn line(&self, line: u32) -> &Line {
        &self.lines.all()[line as usize]
    }

    #[inline]
    fn spot(&self, code: &Code) -> Spot {
        let Hash { lines, fingerprint } = Hash::of(code);
        let four = ((u64::from(lines) * self.fours()) >> 32) as u32;
        Spot { home: four * BESIDE + fingerprint.own_line() as u32, fingerprint }
    }

    fn fours(&self) -> u64 {
        self.count as u64 / u64::from(BESIDE)
    }

    /// `turn` is `None` when each roll renews it.
    pub(super) fn entry(&self, code: &Code, slot: Slot, turn: Option<Turn>, device: DeviceId, row: usize) -> Entry {
        let Spot { home, fingerprint } = self.spot(code);
        let word = Word::of(fingerprint, Phase::of(slot), turn);
        Entry { home, row: row as u32, word, device: device.0 }
    }

    /// Where a code is looked for first.
    pub(super) fn home(&self, code: &Code) -> usize {
        self.spot(code).home as usize
    }

    /// Asks the memory for a code's own line.
    #[inline]
    fn fetch(&self, spot: Spot) {
        prefetch_index(self.lines.all(), spot.home as usize);
    }

    /// Asks for the lines beside a code's own.
    #[inline]
    fn fetch_beside(&self, spot: Spot) {
        (1..BESIDE).for_each(|distance| self.fetch_line(spot, distance));
    }

    /// Asks for the four lines that a code comes to after those beside its own, a page further on.
    fn fetch_far(&self, spot: Spot) {
        (BESIDE..2 * BESIDE).for_each(|distance| self.fetch_line(spot, distance));
    }

    #[inline]
    fn fetch_line(&self, spot: Spot, distance: u32) {
        prefetch_index(self.lines.all(), self.line_at(spot, distance) as usize);
    }

    /// The lines of a code, by how often it went on: its own, those beside it, and such fours all over the table.
    #[inline]
    fn line_at(&self, spot: Spot, distance: u32) -> u32 {
        let nearest = spot.home ^ (distance % BESIDE);
        if distance < BESIDE {
            return nearest;
        }
        let four = (u64::from(nearest / BESIDE) + self.way(spot.fingerprint, distance / BESIDE)) % self.fours();
        four as u32 * BESIDE + nearest % BESIDE
    }

    /// Strides of one length, each a four longer than the one before: equal ones might meet the same few again.
    fn way(&self, fingerprint: Fingerprint, strides: u32) -> u64 {
        let (fours, strides) = (self.fours(), u64::from(strides));
        let stride = (u64::from(fingerprint.stride()) * fours) >> 32;
        (stride * strides + strides * (strides + 1) / 2) % fours
    }

    #[inline]
    pub(super) fn find(&self, code: &Code) -> Option<Hit> {
        let spot = self.spot(code);
        match self.look(spot, 0..1) {
            Glance::Is(hit) => hit,
            Glance::GoesOn => self.find_on(spot, 1),
        }
    }

    /// What these lines of a code say.
    #[inline]
    fn look(&self, spot: Spot, distances: Range<u32>) -> Glance {
        for distance in distances {
            let line = self.line(self.line_at(spot, distance));
            // Before what the line has: where a roll takes a mark away, what had left it came into the line before.
            let has_passed = line.has_passed(spot.fingerprint);
            let hit = line.read(spot.fingerprint);
            if hit.is_some() || !has_passed {
                return Glance::Is(hit.map(|(device, phase)| Hit { device, phase, edition: self.edition }));
            }
        }
        Glance::GoesOn
    }

    /// Goes on from a distance, and begins again where that finds nothing: what a roll moves comes nearer, perhaps to a line
    /// that was read before, and that once in a slot.
    fn find_on(&self, spot: Spot, distance: u32) -> Option<Hit> {
        self.look(spot, distance..DISTANCES).hit().or_else(|| self.find_again(spot))
    }

    fn find_again(&self, spot: Spot) -> Option<Hit> {
        self.look(spot, 0..DISTANCES).hit()
    }

    /// Tells of each code, by its number, what was found. While a burst of them is compared, the memory brings the lines of
    /// those after it. Those that go on, one hit in ten, come a burst later, when the lines beside their own are there
    /// as well, and those that go on from there, one hit in sixty, another burst later.
    #[inline]
    pub(super) fn find_all(&self, asked: &[Code], mut tell: impl FnMut(usize, Option<Hit>)) {
        let mut spots = [[Spot::default(); BURST]; BURSTS_AHEAD];
        let (mut beside, mut far) = (ArrayVec::<_, BURST>::new(), ArrayVec::<_, BURST>::new());
        for stage in stages(asked.len()) {
            far.drain(..).for_each(|(nth, spot)| tell(nth, self.find_on(spot, BESIDE)));
            for (nth, spot) in beside.drain(..) {
                match self.look(spot, 1..BESIDE) {
                    Glance::Is(hit) => tell(nth, hit.or_else(|| self.find_again(spot))),
                    Glance::GoesOn => {
                        self.fetch_far(spot);
                        far.push((nth, spot));
                    }
                }
            }
            let spots = &mut spots[stage % BURSTS_AHEAD];
            if let Some(due) = stage.checked_sub(BURSTS_AHEAD) {
                for (nth, spot) in (due * BURST..).zip(&spots[..burst(asked, due).len()]) {
                    match self.look(*spot, 0..1) {
                        Glance::Is(hit) => tell(nth, hit),
                        Glance::GoesOn => {
                            self.fetch_beside(*spot);
                            beside.push((nth, *spot));
                        }
                    }
                }
            }
            for (code, spot) in burst(asked, stage).iter().zip(spots) {
                *spot = self.spot(code);
                self.fetch(*spot);
            }
        }
    }

    /// For the one who writes: puts entries in, and tells the rows of those that found no place. In bursts as look-ups are:
    /// one code of a roll in five is not settled by its own line, and one in thirty not by those beside it.
    pub(super) fn put_all(&self, entries: &[Entry], mut refused: impl FnMut(usize)) {
        let (mut beside, mut far) = (ArrayVec::<&Entry, BURST>::new(), ArrayVec::<&Entry, BURST>::new());
        for stage in stages(entries.len()) {
            far.drain(..).filter(|entry| !self.put(entry)).for_each(|entry| refused(entry.row()));
            for entry in beside.drain(..) {
                match self.put_within(entry, BESIDE) {
                    Some(put) if put.is_in() => {}
                    Some(_) => refused(entry.row()),
                    None => {
                        self.fetch_far(entry.spot());
                        far.push(entry);
                    }
                }
            }
            for entry in stage.checked_sub(BURSTS_AHEAD).map_or(&[][..], |due| burst(entries, due)) {
                if !self.put_at_home(entry) {
                    self.fetch_beside(entry.spot());
                    beside.push(entry);
                }
            }
            for entry in burst(entries, stage) {
                self.fetch(entry.spot());
            }
        }
    }

    /// An entry whose code's own line has room for it. `false` when that line is full, or has one that looks alike, or sent
    /// one on.
    #[inline]
    fn put_at_home(&self, entry: &Entry) -> bool {
        let (Spot { fingerprint, .. }, line) = (entry.spot(), self.line(entry.home));
        let words = line.words();
        let is_known = place_of(&words, fingerprint).is_some() | line.has_passed(fingerprint);
        let Some(place) = empty_place(&words).filter(|_| !is_known) else { return false };
        line.put(place, entry.word, DeviceId(entry.device));
        true
    }

    /// Puts one in, and tells whether it is.
    pub(super) fn put(&self, entry: &Entry) -> bool {
        self.put_on(entry).is_in()
    }

    /// An entry wherever it belongs, or another word for one that is there.
    fn put_on(&self, entry: &Entry) -> Put {
        self.put_within(entry, DISTANCES).unwrap_or(Put::Full)
    }

    /// Puts it in if so many of its lines settle where it belongs.
    fn put_within(&self, entry: &Entry, distances: u32) -> Option<Put> {
        let (spot, word, device) = (entry.spot(), entry.word, DeviceId(entry.device));
        let (mut empty, mut goes_on) = (None, true);
        for distance in 0..distances {
            let line = self.line(self.line_at(spot, distance));
            let words = line.words();
            if let Some(place) = place_of(&words, spot.fingerprint) {
                if line.device(place) != device {
                    return Some(Put::Taken);
                }
                self.put_at(spot, distance, place, word, device);
                return Some(Put::Known);
            }
            empty = empty.or_else(|| Some((distance, empty_place(&words)?)));
            goes_on &= line.has_passed(spot.fingerprint);
            if empty.is_some() && !goes_on {
                break;
            }
        }
        let (distance, place) = empty.filter(|_| !goes_on || distances == DISTANCES)?;
        self.put_at(spot, distance, place, word, device);
        Some(Put::New)
    }

    fn put_at(&self, spot: Spot, distance: u32, place: usize, word: Word, device: DeviceId) {
        self.line(self.line_at(spot, distance)).put(place, word, device);
        // Whoever looks it up passes these: not before it is there, or a reader would pay for nothing.
        (0..distance).for_each(|before| self.line(self.line_at(spot, before)).pass(word));
    }

    /// Where an entry with this fingerprint is: its line, and its place there. On whichever line of its way, whatever the
    /// marks say: while a roll clears, what is over can lie in one that is cleared later than those before it.
    fn place_of(&self, spot: Spot) -> Option<(&Line, usize)> {
        (0..DISTANCES).find_map(|distance| {
            let line = self.line(self.line_at(spot, distance));
            place_of(&line.words(), spot.fingerprint).map(|place| (line, place))
        })
    }

    #[cfg(test)]
    pub(super) fn way_of(&self, code: &Code) -> impl Iterator<Item = usize> {
        let spot = self.spot(code);
        (0..DISTANCES).map(move |distance| self.line_at(spot, distance) as usize)
    }

    /// Whether it has any code of a dongle, where that would be found or anywhere else.
    #[cfg(test)]
    pub(super) fn has(&self, device: DeviceId) -> bool {
        let is_its = |line: &Line, place: usize| !line.words()[place].is_empty() && line.device(place) == device;
        self.lines.all().iter().any(|line| (0..PLACES).any(|place| is_its(line, place)))
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
    use std::sync::atomic::Ordering::{Acquire, Release};
    use std::sync::atomic::{AtomicBool, AtomicU64, fence};

    use super::*;

    fn code_of(nth: u64) -> Code {
        let halves = [nth.wrapping_mul(0xD134_2543_DE82_EF95).to_le_bytes(), nth.to_le_bytes()];
        Code(halves.as_flattened().try_into().unwrap())
    }

    fn put(table: &Table, nth: u64) -> Put {
        table.put_on(&table.entry(&code_of(nth), Slot(nth), None, DeviceId(nth), 0))
    }

    /// Whether it is in another four of lines than its own.
    fn is_far(table: &Table, nth: u64) -> bool {
        let code = code_of(nth);
        let fingerprint = table.spot(&code).fingerprint;
        let is_in = |line: usize| place_of(&table.line(line as u32).words(), fingerprint).is_some();
        !table.way_of(&code).take(BESIDE as usize).any(is_in)
    }

    /// Round bursts, and about those that are under way.
    const COUNTS: [usize; 11] = [0, 1, 47, 48, 49, 95, 96, 97, 143, 144, 145];

    fn lines_of_a_miss(table: &Table, strangers: Range<u64>) -> f64 {
        let count = strangers.end - strangers.start;
        let reads = |nth: u64| {
            let spot = table.spot(&code_of(nth));
            let goes_on = |distance: &u32| table.line(table.line_at(spot, *distance)).has_passed(spot.fingerprint);
            1 + (0..DISTANCES - 1).take_while(goes_on).count()
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
        assert!(lines < 1.25, "{lines} lines a miss when it is full");
    }

    /// At 65 % nobody of 30 million dongles is to be left out, and there is room for newcomers until 75.
    #[test]
    fn no_code_is_without_a_place_before_the_table_is_nearly_full() {
        let table = Table::of(0, 5);
        let places = table.lines() as u64 * PLACES as u64;
        let taken = (0..places).take_while(|nth| put(&table, *nth) == Put::New).count() as u64;
        assert!(taken * 100 >= places * 88, "{taken} of {places}");
    }

    /// A code in eleven lies elsewhere in a new table, and would come to one in six if nothing moved.
    #[test]
    fn a_table_that_went_through_some_rolls_is_as_good_as_a_new_one() {
        let table = Table::of(0, 5);
        let each = CODES_MIN as u64 / 3;
        let mut put_slot = |slot: u64| {
            for nth in slot * each..(slot + 1) * each {
                let turn = Some(Turn((slot % 3) as u8));
                assert_eq!(table.put_on(&table.entry(&code_of(nth), Slot(slot), turn, DeviceId(nth), 0)), Put::New);
            }
        };
        (0..3).for_each(&mut put_slot);
        for slot in 3..9 {
            table.expire(0..table.lines(), Turn((slot % 3) as u8));
            put_slot(slot);
        }
        let codes = 6 * each..9 * each;
        assert!(codes.clone().all(|nth| table.find(&code_of(nth)).map(|hit| hit.device) == Some(DeviceId(nth))));
        let is_elsewhere = |nth: &u64| {
            let spot = table.spot(&code_of(*nth));
            place_of(&table.line(spot.home).words(), spot.fingerprint).is_none()
        };
        let elsewhere = codes.clone().filter(is_elsewhere).count() as f64 / (3 * each) as f64;
        assert!(elsewhere < 0.11, "{elsewhere} of the codes are elsewhere");
        let lines = lines_of_a_miss(&table, 9 * each..12 * each);
        assert!(lines < 1.15, "{lines} lines a miss");
    }

    /// One four of lines, in which a code is sent on and comes back all the time.
    #[test]
    fn a_reader_finds_what_moves() {
        let table = Table::empty(5);
        let in_first_line = |nth: &u64| table.home(&code_of(*nth)) == 0;
        let [movers, fillers] =
            [0, 1 << 32].map(|first| (first..).filter(in_first_line).take(64).collect::<Vec<u64>>());
        let find_in_batch = |code: Code| {
            let mut found = None;
            table.find_all(&[code], |_, hit| found = hit);
            found
        };
        // The number of the writer's round in which a mover is there, plus one: it may come again in a later one.
        let (present, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let read = || {
            let mut found = 0;
            while !is_over.load(Acquire) {
                let round = present.load(Acquire);
                if round == 0 {
                    continue;
                }
                let mover = movers[(round - 1) as usize % movers.len()];
                let code = code_of(mover);
                let hit = if found % 2 == 0 { table.find(&code) } else { find_in_batch(code) };
                fence(Acquire);
                if present.load(Acquire) == round {
                    assert_eq!(hit.map(|hit| hit.device), Some(DeviceId(mover)));
                    found += 1;
                }
            }
            found
        };
        let write = |nth: usize| {
            let (mover, turn) = (movers[nth % movers.len()], Turn((nth % 3) as u8));
            for filler in (0..PLACES).map(|place| fillers[(nth * PLACES + place) % fillers.len()]) {
                table.put_on(&table.entry(&code_of(filler), Slot(0), Some(turn), DeviceId(filler), 0));
            }
            table.put_on(&table.entry(&code_of(mover), Slot(0), None, DeviceId(mover), 0));
            present.store(nth as u64 + 1, Release);
            std::hint::spin_loop();
            table.expire(0..table.lines(), turn);
            let is_home = place_of(&table.line(0).words(), table.spot(&code_of(mover)).fingerprint).is_some();
            present.store(0, Release);
            fence(Release);
            assert!(is_home && table.remove(&code_of(mover), DeviceId(mover)));
        };
        let found = std::thread::scope(|scope| {
            let reader = scope.spawn(read);
            (0..400_000).for_each(write);
            is_over.store(true, Release);
            reader.join().unwrap()
        });
        assert!(found > 1_000, "{found}");
    }

    #[test]
    fn many_asked_at_once_are_told_once_each_what_one_alone_is_told() {
        let table = Table::of(0, 5);
        let codes = table.codes_max() as u64;
        assert!((0..codes).all(|nth| put(&table, nth) == Put::New));
        // A third are strangers'.
        let mixed: Vec<Code> = (0..codes).map(|nth| code_of(if nth % 3 == 0 { codes + nth } else { nth })).collect();
        let far = code_of((0..codes).find(|nth| is_far(&table, *nth)).unwrap());
        let check = |asked: &[Code]| {
            let mut told = vec![Vec::new(); asked.len()];
            table.find_all(asked, |nth, hit| told[nth].push(hit));
            assert!(told.iter().zip(asked).all(|(told, code)| *told == [table.find(code)]));
        };
        check(&mixed);
        for count in COUNTS {
            check(&mixed[..count]);
            check(&vec![far; count]);
        }
    }

    #[test]
    fn all_that_are_put_in_at_once_are_there_when_each_has_to_go_far() {
        let table = Table::of(0, 5);
        let mut next = table.codes_max() as u64;
        assert!((0..next).all(|nth| put(&table, nth) == Put::New));
        let is_full = |line: usize| empty_place(&table.line(line as u32).words()).is_none();
        for count in COUNTS {
            let goes_far = |nth: &u64| table.way_of(&code_of(*nth)).take(BESIDE as usize).all(is_full);
            let newcomers: Vec<u64> = (next..).filter(goes_far).take(count).collect();
            let entry = |nth: &u64| table.entry(&code_of(*nth), Slot(*nth), None, DeviceId(*nth), 0);
            table.put_all(&newcomers.iter().map(entry).collect::<Vec<_>>(), |_| panic!("there is room"));
            assert!(newcomers.iter().all(|nth| is_far(&table, *nth) && table.find(&code_of(*nth)).is_some()));
            next = newcomers.last().map_or(next, |last| last + 1);
        }
    }

    #[test]
    fn of_many_put_in_at_once_each_code_has_one_dongle_however_far_it_lies() {
        // As full as it gets: many go on from their own line, and some to other fours.
        let table = Table::of(0, 5);
        let codes = table.codes_max() as u64;
        let turn = |nth: u64| nth.is_multiple_of(2).then_some(Turn(0));
        let entry =
            |nth: u64, device: u64| table.entry(&code_of(nth), Slot(nth), turn(nth), DeviceId(device), device as usize);
        let put_all = |entries: &[Entry]| {
            let mut refused = Vec::new();
            table.put_all(entries, |row| refused.push(row));
            refused.sort_unstable();
            refused
        };
        let has = |nth: u64| table.find(&code_of(nth)).map(|hit| hit.device) == Some(DeviceId(nth));
        let twins = |first: u64, step: usize| (first..codes).step_by(step).map(|nth| (nth + codes) as usize);
        // A twin comes next, or a burst or two later.
        let twin = |nth: u64| (nth + [0, 40, 48, 80, 96, 130][nth as usize / 8 % 6], 1, entry(nth, nth + codes));
        let mut entries: Vec<(u64, u8, Entry)> = (0..codes).map(|nth| (nth, 0, entry(nth, nth))).collect();
        entries.extend((0..codes).step_by(8).map(twin));
        entries.sort_by_key(|&(at, twin, _)| (at, twin));
        let entries: Vec<Entry> = entries.into_iter().map(|(_, _, entry)| entry).collect();
        assert!(put_all(&entries).into_iter().eq(twins(0, 8)));
        assert!((0..codes).all(has));
        let far = (1..codes).step_by(2).filter(|nth| is_far(&table, *nth)).count();
        assert!(far > 1_000, "{far} codes are in other fours than their own");
        // There is room near their own lines now, which is not for others with the same codes.
        table.expire(0..table.lines(), Turn(0));
        let late: Vec<Entry> = (1..codes).step_by(2).map(|nth| entry(nth, nth + codes)).collect();
        assert!(put_all(&late).into_iter().eq(twins(1, 2)));
        assert!((1..codes).step_by(2).all(has));
    }

    #[test]
    fn what_is_over_goes_from_a_full_table_with_its_marks_and_the_rest_is_found_where_it_is() {
        const RENEWED: u64 = 3;
        let table = Table::of(0, 5);
        let codes = table.codes_max() as u64;
        let put = |nth: u64| {
            let turn = (nth % 4 != RENEWED).then_some(Turn((nth % 4) as u8));
            table.put_on(&table.entry(&code_of(nth), Slot(nth), turn, DeviceId(nth), 0))
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
    fn what_a_roll_has_not_come_to_yet_is_removed_though_its_marks_are_gone() {
        let table = Table::of(0, 5);
        let codes = table.codes_max() as u64;
        let entry = |nth: u64| table.entry(&code_of(nth), Slot(nth), Some(Turn(0)), DeviceId(nth), 0);
        assert!((0..codes).all(|nth| table.put_on(&entry(nth)) == Put::New));
        let far = (0..codes).find(|nth| is_far(&table, *nth)).unwrap();
        let own_four = table.home(&code_of(far)) & !(BESIDE as usize - 1);
        table.expire(own_four..own_four + BESIDE as usize, Turn(0));
        assert!(table.find(&code_of(far)).is_none() && table.has(DeviceId(far)));
        assert!(table.remove(&code_of(far), DeviceId(far)) && !table.has(DeviceId(far)));
    }

    #[test]
    fn a_code_that_another_dongle_has_is_taken_and_its_own_is_known() {
        let table = Table::of(0, 5);
        let put = |slot, device| table.put_on(&table.entry(&code_of(1), Slot(slot), None, DeviceId(device), 0));
        assert_eq!([put(1, 7), put(2, 8), put(3, 7)], [Put::New, Put::Taken, Put::Known]);
        assert_eq!(table.find(&code_of(1)), Some(Hit { device: DeviceId(7), phase: Phase::of(Slot(3)), edition: 5 }));
    }
}
