//! What is remembered of an uplink: its codes by number, and how far its spool was applied.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::engine::{
    batch::Batch,
    code::Code,
    codebook::{Codebook, Hit},
    id::{DeviceId, SpoolId},
    limits::{HEARINGS_MAX, RECEIVERS_MAX},
    presence::WindowHandle,
    time::UnixMs,
};

/// Starts of a gateway that are told apart. A late batch of an older one is applied as if it were new.
const SPOOLS_MAX: usize = 4;

/// Looks at unknown codes that stand strong at a pump, in a second: a stranger's flood takes no more from the sweep.
const MISSED_PER_S: u32 = 64;

/// What a code stood for when it was last looked up, and the generation of the codebook in which it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    generation: u64,
    owner: Option<Owner>,
}

/// The codes lie apart from it, since a hearing does not need them: an entry is 32 bytes, half a cache line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) device: DeviceId,
    /// Its window, as of its last hearing.
    pub(super) window: Option<WindowHandle>,
}

/// The codes of one uplink by the numbers that it gave them. At most `CODES_MAX`: a batch that goes beyond is refused.
#[derive(Debug, Default)]
pub(super) struct CodeTable {
    entries: Vec<Entry>,
    codes: Vec<Code>,
    /// Codes that nobody has, and of which somebody was told.
    missed: Vec<bool>,
    /// That of the codebook which was last asked for a whole batch.
    generation: u64,
}

impl CodeTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in what the batch introduces.
    pub(super) fn introduce(&mut self, batch: &Batch<'_>) {
        if batch.starts_table() {
            self.entries.clear();
            self.codes.clear();
            self.missed.clear();
        }
        // No book has this generation, so that the first hearing looks the code up.
        let unknown = Entry { generation: u64::MAX, owner: None };
        self.codes.extend_from_slice(batch.introductions());
        self.entries.resize(self.codes.len(), unknown);
    }

    /// Looks up together what the batch is about to ask for, when there is much of it: after a new codebook, or with
    /// several introductions. `found` is told of each look-up that found an owner.
    pub(super) fn refresh(&mut self, batch: &Batch<'_>, book: &Codebook, mut found: impl FnMut(Hit)) {
        let generation = book.generation();
        if self.generation == generation && batch.introductions().len() < 2 {
            return;
        }
        self.generation = generation;
        // Taken once, in however many groups it is.
        let entries = &mut self.entries;
        let takes = |number: &usize| std::mem::replace(&mut entries[*number].generation, generation) != generation;
        let numbers = batch.groups().map(|group| usize::from(group.number));
        // No batch has more groups than hearings.
        let asked: ArrayVec<usize, HEARINGS_MAX> = numbers.filter(takes).collect();
        let codes: ArrayVec<Code, HEARINGS_MAX> = asked.iter().map(|number| self.codes[*number]).collect();
        book.find_all(&codes, |nth, hit| {
            self.entries[asked[nth]].answer(hit);
            hit.map(&mut found);
        });
    }

    /// The code with this number, which nobody has; `None` when it was asked for before.
    pub(super) fn miss(&mut self, number: u16) -> Option<Code> {
        self.missed.resize(self.codes.len(), false);
        let was_told = std::mem::replace(&mut self.missed[usize::from(number)], true);
        (!was_told).then(|| self.codes[usize::from(number)])
    }

    /// The owner of the code with this number, looked up once per codebook; `found` is told of each look-up that
    /// found one.
    pub(super) fn resolve(&mut self, number: u16, book: &Codebook, found: impl FnOnce(Hit)) -> Option<&mut Owner> {
        let entry = &mut self.entries[usize::from(number)];
        if entry.generation != book.generation() {
            let hit = book.find(&self.codes[usize::from(number)]);
            entry.generation = book.generation();
            entry.answer(hit);
            hit.map(found);
        }
        entry.owner.as_mut()
    }
}

impl Entry {
    /// The window stays: its code is the same, whatever the book says of it now.
    fn answer(&mut self, hit: Option<Hit>) {
        let window = self.owner.and_then(|owner| owner.window);
        self.owner = hit.map(|Hit { device, .. }| Owner { device, window });
    }
}

/// The highest applied sequence of the last few spools.
#[derive(Debug, Default)]
pub(super) struct Spools {
    applied: VecDeque<(SpoolId, u64)>,
}

impl Spools {
    pub(super) fn applied(&self, spool: SpoolId) -> Option<u64> {
        self.applied.iter().find(|(known, _)| *known == spool).map(|(_, sequence)| *sequence)
    }

    /// Whether the batch is new; it counts as applied from now on.
    pub(super) fn advance(&mut self, spool: SpoolId, sequence: u64) -> bool {
        if let Some((_, applied)) = self.applied.iter_mut().find(|(known, _)| *known == spool) {
            let is_new = sequence > *applied;
            *applied = sequence.max(*applied);
            return is_new;
        }
        if self.applied.len() == SPOOLS_MAX {
            self.applied.pop_front();
        }
        self.applied.push_back((spool, sequence));
        true
    }
}

/// Hearings of each receiver in the current second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    second: u64,
    all: u64,
    missed: u32,
    counts: [u32; RECEIVERS_MAX],
}

impl Rates {
    /// Begins a new second when it is time.
    pub(super) fn tick(&mut self, now: UnixMs) {
        if now.0 / 1000 != self.second {
            *self = Rates { second: now.0 / 1000, ..Rates::default() };
        }
    }

    /// Whether so many hearings of any receivers may be taken in without a look at each. As long as the station as a
    /// whole stays below one receiver's bound, no receiver is past it. They are not counted to their receivers, so
    /// that in the worst case one of them gets twice its bound in a second.
    pub(super) fn admit_all(&mut self, hearings: u64, max: u32) -> bool {
        self.all += hearings;
        self.all <= u64::from(max)
    }

    /// Whether one more unknown code may be looked for in this second.
    pub(super) fn admit_missed(&mut self) -> bool {
        self.missed += 1;
        self.missed <= MISSED_PER_S
    }

    /// Whether the receiver may be heard once more in this second.
    pub(super) fn admit(&mut self, receiver: u8, max: u32) -> bool {
        let count = &mut self.counts[usize::from(receiver) % RECEIVERS_MAX];
        *count = count.saturating_add(1);
        *count <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        batch::{Encoder, Hearing},
        clock::ClockOffset,
        code::Secret,
        codebook::Builder,
        id::ReceiverId,
        time::SlotLength,
    };

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn secret(device: u64) -> Secret {
        Secret::Fixed { code: Code([device as u8 + 1; 16]) }
    }

    fn book(devices: impl Iterator<Item = u64>) -> Codebook {
        let mut builder = Builder::new(SlotLength::DEFAULT, NOW, HEARINGS_MAX);
        devices.for_each(|device| builder.add(DeviceId(device), &secret(device), ClockOffset::default()).unwrap());
        builder.finish(1)
    }

    /// One hearing of each of the first `count` dongles, with its length prefix.
    fn encoded(count: usize) -> Vec<u8> {
        let slot = SlotLength::DEFAULT.slot_at(NOW);
        let hearing =
            |device: u64| Hearing { code: secret(device).code(slot), receiver: ReceiverId(1), rssi: -50, at: NOW };
        let mut bytes = Vec::new();
        Encoder::new().encode(1, &(0..count as u64).map(hearing).collect::<Vec<_>>(), &mut bytes).unwrap();
        bytes
    }

    fn refreshed(bytes: &[u8], book: &Codebook) -> (CodeTable, Vec<DeviceId>) {
        let batch = Batch::read(&bytes[2..]).unwrap();
        let (mut table, mut found) = (CodeTable::default(), Vec::new());
        table.introduce(&batch);
        batch.check_numbers(0).unwrap();
        table.refresh(&batch, book, |hit| found.push(hit.device));
        found.sort_unstable_by_key(|device| device.0);
        (table, found)
    }

    /// What the table says without another look at a book.
    fn owner(table: &mut CodeTable, number: u16, book: &Codebook) -> Option<DeviceId> {
        table.resolve(number, book, |_| panic!("it was looked up")).map(|owner| owner.device)
    }

    #[test]
    fn all_codes_of_the_largest_batch_are_looked_up_at_once_and_each_gets_its_own_answer() {
        let bytes = encoded(HEARINGS_MAX);
        let is_known = |device: &u64| device % 3 != 1;
        let book = book((0..HEARINGS_MAX as u64).filter(is_known));
        let (mut table, found) = refreshed(&bytes, &book);
        assert!(found.into_iter().eq((0..HEARINGS_MAX as u64).filter(is_known).map(DeviceId)));
        for device in 0..HEARINGS_MAX as u64 {
            let expected = is_known(&device).then_some(DeviceId(device));
            assert_eq!(owner(&mut table, device as u16, &book), expected);
        }
    }

    #[test]
    fn a_number_in_two_groups_is_looked_up_once() {
        let mut bytes = encoded(3);
        // Prefix, header, three codes, and a group with one hearing: the next group gets the same number.
        let second = 2 + 22 + 3 * 16 + 8;
        assert_eq!(bytes[second..second + 2], [1, 0]);
        bytes[second] = 0;
        let book = book(0..3);
        let (mut table, found) = refreshed(&bytes, &book);
        assert_eq!(found, [0, 2].map(DeviceId));
        assert_eq!([0, 2].map(|number| owner(&mut table, number, &book)), [0, 2].map(|id| Some(DeviceId(id))));
    }
}
