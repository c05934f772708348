//! The shell around the cashier, as the payment actor is one.

use forecourt::{
    engine::charge::{ChargeKey, Event, Instruction},
    ledger::Kind,
    payment::{Full, News, Record, Report, Step},
};

use crate::{
    journal::Then,
    plants::Plant,
    process::{Inside, RETRY_MS},
    world::World,
};

impl World {
    pub(crate) fn instruct(&mut self, instruction: Instruction) {
        self.remember(instruction.key());
        match self.process.cashier.instruct(instruction.clone(), self.steady()) {
            Ok(Some(Step::Journal(key, record))) => self.journal_charge(key, record, Some(instruction)),
            Ok(step) => {
                self.carry_out(step);
                self.soon(20, Inside::Taken(instruction));
            }
            Err(Full) => self.later(RETRY_MS, Inside::NotTaken(instruction)),
        }
    }

    pub(crate) fn ask(&mut self, instruction: Instruction) {
        self.remember(instruction.key());
        let step = self.process.cashier.ask(instruction, self.steady());
        self.carry_out(step);
    }

    /// A charge that left the memory is known again from the journal.
    fn remember(&mut self, key: ChargeKey) {
        if !self.process.cashier.knows(key) {
            let now = self.steady();
            for (_, entry) in self.journal.of(Kind::Charge, &key.0) {
                self.process.cashier.take_up(&entry, now).expect("the journal holds what was written");
            }
        }
    }

    pub(crate) fn carry_out(&mut self, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Journal(key, record)) => self.journal_charge(key, record, None),
            Some(Step::Send(instruction)) => {
                let is_first = self.sent.insert(instruction.key());
                if self.plant == Some(Plant::NewKeyOnRetry) && !is_first {
                    return self.instruct(Instruction { ordinal: instruction.ordinal + 1_000, ..instruction });
                }
                self.send(instruction);
            }
            Some(Step::LookUp(key)) => self.look_up(key),
            Some(Step::Report(report)) => {
                self.charge_again(&report);
                self.soon(20, Inside::Report(report));
            }
        }
    }

    pub(crate) fn journal_charge(&mut self, key: ChargeKey, record: Record, waiting: Option<Instruction>) {
        let early = match self.plant {
            Some(Plant::SkipIntent) => matches!(record, Record::Intended(_)),
            Some(Plant::ReportEarly) => matches!(record, Record::Concluded(_)),
            _ => false,
        };
        let entry = record.entry(key, self.clock.wall());
        self.append(entry, Then::Charge(key, record.clone(), waiting));
        if early {
            let step = self.process.cashier.durable(key, record, self.steady());
            self.carry_out(step);
        }
    }

    /// The plant: silence is taken for a failure, and the money asked for anew, in all order but for the key.
    fn charge_again(&mut self, report: &Report) {
        if self.plant == Some(Plant::ChargeAgainOnTimeout) && report.news == News::InDoubt {
            let session = self.process.desk.session(report.session);
            let charge = session.and_then(|session| session.pending().find(|i| i.ordinal == report.ordinal)).cloned();
            if let Some(charge) = charge {
                self.instruct(Instruction { ordinal: charge.ordinal + 1_000, ..charge });
            }
        }
    }

    pub(crate) fn charge_journalled(
        &mut self,
        key: ChargeKey,
        record: Record,
        waiting: Option<Instruction>,
        durable: bool,
    ) {
        let step = if durable {
            self.process.cashier.durable(key, record, self.steady())
        } else {
            if let Some(Step::Journal(key, record)) = self.process.cashier.refused(key, record) {
                self.later(RETRY_MS, Inside::Offer(key, record));
            }
            None
        };
        self.carry_out(step);
        match waiting {
            Some(instruction) if durable => self.soon(20, Inside::Taken(instruction)),
            Some(instruction) => self.later(RETRY_MS, Inside::NotTaken(instruction)),
            None => {}
        }
    }

    /// What the PSP, or its silence, says of a charge.
    pub(crate) fn on_charge_event(&mut self, key: ChargeKey, event: Event) {
        let step = self.process.cashier.on_event(key, event, self.steady());
        self.carry_out(step);
    }
}
