//! Our side of a day, read from the journal.

use std::collections::HashMap;

use super::{Day, Error};
use crate::{
    engine::{
        charge::{ChargeKey, Instruction, Operation, Outcome},
        money::Money,
        time::UnixMs,
    },
    ledger::{Journal, Kind},
    payment::{Record, Unreadable},
};

/// A younger charge without an outcome is not in doubt, but under way.
const UNDER_WAY_MS: u64 = 60_000;

/// Instructions that a session gives after a hold, in which its capture is looked for; it takes 16 by itself.
const LATER_MAX: u32 = 32;

/// A charge, capture or refund whose success was journalled on the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Success {
    pub(super) instruction: Instruction,
    pub(super) amount: Money,
    pub(super) reference: String,
    pub(super) at: UnixMs,
}

/// A charge of the day or before that has no outcome now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) instruction: Instruction,
    pub(super) intended_at: UnixMs,
    pub(super) is_unresolved: bool,
}

/// Successes take about 250 bytes each: 250 MB for a million on a day.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pub(super) successes: Vec<Success>,
    pub(super) open: Vec<Open>,
}

/// Reads the whole journal once, in order; what was concluded before the day leaves the memory with its conclusion.
pub(super) fn read(journal: &Journal, day: Day, now: UnixMs) -> Result<Ours, Error> {
    let mut reading = Reading { day, open: HashMap::new(), successes: Vec::new(), late: Vec::new() };
    let mut outcome = Ok(());
    journal.replay(|_, entry| {
        if entry.kind == Kind::Charge && outcome.is_ok() {
            outcome = Record::read(&entry).map(|(key, record)| reading.take(key, record, entry.at));
        }
    })?;
    outcome?;
    for (key, amount, reference, at) in std::mem::take(&mut reading.late) {
        let records = records(journal, key)?;
        let instruction = intent(&records).filter(|instruction| moves_money(instruction)).cloned();
        reading.successes.extend(instruction.map(|instruction| Success { instruction, amount, reference, at }));
    }
    let is_open = |open: &Open| open.intended_at < day.end() && now.since(open.intended_at) >= UNDER_WAY_MS;
    let mut open: Vec<Open> = reading.open.into_values().filter(is_open).collect();
    open.sort_by_key(|open| open.intended_at);
    Ok(Ours { successes: reading.successes, open })
}

/// Whether the journal knows of a movement of money under this key: its own success, or of the key of a hold the success
/// of a capture.
pub(super) fn has_moved_money(journal: &Journal, key: ChargeKey) -> Result<bool, Error> {
    let records = records(journal, key)?;
    match intent(&records) {
        Some(hold) if hold.operation == Operation::Hold => {
            for capture in captures_of(hold) {
                if self::records(journal, capture)?.iter().any(is_success) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(records.iter().any(is_success)),
    }
}

/// The keys that a hold's capture may have: a key says all but the ordinal.
fn captures_of(hold: &Instruction) -> impl Iterator<Item = ChargeKey> {
    let ordinals = hold.ordinal + 1..=hold.ordinal + LATER_MAX;
    ordinals.map(|ordinal| Instruction { ordinal, operation: Operation::Capture, ..hold.clone() }.key())
}

fn is_success(record: &Record) -> bool {
    matches!(record, Record::Concluded(Outcome::Succeeded { .. }))
}

struct Reading {
    day: Day,
    open: HashMap<ChargeKey, Open>,
    successes: Vec<Success>,
    /// Successes after another conclusion, with which their instruction was forgotten.
    late: Vec<(ChargeKey, Money, String, UnixMs)>,
}

impl Reading {
    fn take(&mut self, key: ChargeKey, record: Record, at: UnixMs) {
        match record {
            Record::Intended(instruction) => {
                self.open.insert(key, Open { instruction, intended_at: at, is_unresolved: false });
            }
            Record::Named(_) => {}
            Record::Unresolved => {
                if let Some(open) = self.open.get_mut(&key) {
                    open.is_unresolved = true;
                }
            }
            Record::Concluded(Outcome::Declined | Outcome::Failed) => drop(self.open.remove(&key)),
            Record::Concluded(Outcome::Succeeded { amount, reference }) => {
                let open = self.open.remove(&key);
                if !self.day.contains(at) {
                    return;
                }
                match open {
                    Some(Open { instruction, .. }) if !moves_money(&instruction) => {}
                    Some(Open { instruction, .. }) => {
                        self.successes.push(Success { instruction, amount, reference, at });
                    }
                    None => self.late.push((key, amount, reference, at)),
                }
            }
        }
    }
}

fn moves_money(instruction: &Instruction) -> bool {
    instruction.operation.takes_money() || instruction.operation == Operation::Refund
}

fn intent(records: &[Record]) -> Option<&Instruction> {
    records.iter().find_map(|record| match record {
        Record::Intended(instruction) => Some(instruction),
        _ => None,
    })
}

fn records(journal: &Journal, key: ChargeKey) -> Result<Vec<Record>, Error> {
    let entries = journal.of(Kind::Charge, &key.0)?;
    Ok(entries.iter().map(|(_, entry)| Ok(Record::read(entry)?.1)).collect::<Result<_, Unreadable>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::id::SessionId,
        ledger::{Config, Ledger},
    };

    fn day() -> Day {
        "2026-11-24".parse().unwrap()
    }

    fn noon() -> UnixMs {
        day().start().plus(12 * 3_600_000)
    }

    fn instruction(ordinal: u32, operation: Operation) -> Instruction {
        let amount = Money { minor: 100, currency: "EUR".parse().unwrap() };
        Instruction { session: SessionId([1; 16]), ordinal, operation, means: "tok".into(), amount, of: None }
    }

    fn succeeded() -> Record {
        let Instruction { amount, .. } = instruction(0, Operation::Charge);
        Record::Concluded(Outcome::Succeeded { amount, reference: "ref".into() })
    }

    async fn journalled(records: Vec<(&Instruction, Record, UnixMs)>) -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            queue_max: 4,
            commit_max: 4,
            checkpoint_entries: 100,
            transaction_days: 3,
            session_days: 1826,
            location_days: 30,
        };
        let ledger = Ledger::open(&config, folder.path()).unwrap();
        let entry = |(of, record, at): (&Instruction, Record, UnixMs)| record.entry(of.key(), at);
        ledger.append(records.into_iter().map(entry).collect()).await.unwrap();
        let journal = ledger.reader().unwrap();
        (folder, journal)
    }

    #[tokio::test]
    async fn a_day_holds_its_successes_and_what_is_open_since() {
        let [charge, hold, refund, early, open, young] = [
            (1, Operation::Charge),
            (2, Operation::Hold),
            (3, Operation::Refund),
            (4, Operation::Charge),
            (5, Operation::Charge),
            (6, Operation::Charge),
        ]
        .map(|(ordinal, operation)| instruction(ordinal, operation));
        let intended = |of: &Instruction| Record::Intended(of.clone());
        let before = day().start().minus(1);
        let (_folder, journal) = journalled(vec![
            (&early, intended(&early), before),
            (&early, succeeded(), before),
            (&charge, intended(&charge), before),
            (&charge, succeeded(), noon()),
            (&hold, intended(&hold), noon()),
            (&hold, succeeded(), noon()),
            (&refund, intended(&refund), noon()),
            (&refund, Record::Concluded(Outcome::Failed), noon()),
            (&open, intended(&open), noon()),
            (&open, Record::Unresolved, noon()),
            (&refund, succeeded(), noon()),
            (&young, intended(&young), noon().plus(60_000)),
        ])
        .await;
        let ours = read(&journal, day(), noon().plus(60_001)).unwrap();
        let ordinals: Vec<u32> = ours.successes.iter().map(|success| success.instruction.ordinal).collect();
        assert_eq!(ordinals, [1, 3], "the charge, and the refund that succeeded late");
        assert_eq!(ours.open, [Open { instruction: open, intended_at: noon(), is_unresolved: true }]);
    }

    #[tokio::test]
    async fn a_hold_has_moved_money_when_its_capture_has() {
        let hold = instruction(1, Operation::Hold);
        let capture = Instruction { of: Some(hold.key()), ..instruction(4, Operation::Capture) };
        let intent = |of: &Instruction| Record::Intended(of.clone());
        let uncaptured = vec![(&hold, intent(&hold), noon()), (&hold, succeeded(), noon())];
        let (_folder, journal) = journalled(uncaptured.clone()).await;
        assert!(!has_moved_money(&journal, hold.key()).unwrap());
        let captured =
            [uncaptured, vec![(&capture, intent(&capture), noon()), (&capture, succeeded(), noon())]].concat();
        let (_folder, journal) = journalled(captured).await;
        assert!(has_moved_money(&journal, hold.key()).unwrap());
        assert!(!has_moved_money(&journal, ChargeKey([0; 32])).unwrap());
    }
}
