//! The actor: carries what the [`Cashier`] decides to the journal, the gateway and the sessions.

use std::time::Duration;

use actix::prelude::*;
use tracing::Span;

use super::{
    Error, News, Report, StartError,
    cashier::{Cashier, Full, Record, Step},
    gateway::{Guard, Hint},
    metrics::Metrics,
};
use crate::{
    engine::charge::{ChargeKey, Event, Instruction},
    ledger::{Kind, Ledger, LedgerError},
    telemetry::{now, steady_now, trace::InSpan as _},
};

/// Pause before an outcome that the journal did not take is offered to it again.
const JOURNAL_RETRY: Duration = Duration::from_secs(1);

/// Charges that are looked at in one turn of the timer.
const DUE_MAX: usize = 256;

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Instruct(pub Instruction, pub Span);

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Ask(pub Instruction, pub Span);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Attach(pub Recipient<Report>);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Hinted(pub Hint, pub Span);

pub(super) struct PaymentActor {
    pub(super) cashier: Cashier,
    pub(super) guard: Guard,
    pub(super) ledger: Ledger,
    reports: Option<Recipient<Report>>,
    timer: Option<SpawnHandle>,
    pub(super) metrics: Metrics,
}

/// Rebuilds the cashier from the journal.
pub(super) fn recover(cashier: &mut Cashier, ledger: &Ledger) -> Result<(), StartError> {
    let mut outcome = Ok(());
    ledger.replay(|_, entry| {
        if entry.kind == Kind::Charge && outcome.is_ok() {
            outcome = cashier.take_up(&entry, steady_now());
        }
    })?;
    Ok(outcome?)
}

impl PaymentActor {
    pub(super) fn new(cashier: Cashier, guard: Guard, ledger: Ledger) -> PaymentActor {
        PaymentActor { cashier, guard, ledger, reports: None, timer: None, metrics: Metrics::new() }
    }

    /// Carries out what the cashier decided, then sets the timer for the next decision.
    fn carry_out(&mut self, step: Option<Step>, context: &mut Context<Self>) {
        match step {
            None => {}
            Some(Step::Journal(key, record)) => {
                if record == Record::Unresolved {
                    tracing::error!(?key, "a charge stayed unknown for a week: reconciliation has to tell");
                }
                let journalled = self.journal(key, record).map(|_, _, _| ());
                context.spawn(journalled.within_current());
            }
            Some(Step::Send(instruction)) => self.send(instruction, context),
            Some(Step::LookUp(key)) => self.look_up(key, context),
            Some(Step::Report(report)) => self.tell(report, context),
        }
        self.metrics.open.set(self.cashier.open_count() as f64);
        self.arm(context);
    }

    pub(super) fn on_event(&mut self, key: ChargeKey, event: Event, context: &mut Context<Self>) {
        let step = self.cashier.on_event(key, event, steady_now());
        self.carry_out(step, context);
    }

    /// Appends the record and goes on from there; the answer says whether it is durable.
    fn journal(&self, key: ChargeKey, record: Record) -> ResponseActFuture<Self, Result<(), Error>> {
        let (ledger, entry) = (self.ledger.clone(), record.entry(key, now()));
        let is_first = matches!(record, Record::Intended(_));
        let append = async move { if is_first { ledger.begin(entry).await } else { ledger.append(vec![entry]).await } };
        Box::pin(append.into_actor(self).map(move |appended, actor, context| {
            match &appended {
                Ok(_) => {
                    actor.metrics.journalled(&record);
                    let step = actor.cashier.durable(key, record, steady_now());
                    actor.carry_out(step, context);
                }
                Err(LedgerError::Known) => drop(actor.cashier.refused(key, record)),
                // The engine stops; the next start asks the PSP.
                Err(LedgerError::Closed) => {
                    tracing::debug!(?key, "a step of a charge came too late for this journal");
                    let _ = actor.cashier.refused(key, record);
                }
                Err(error) => {
                    tracing::error!(%error, ?key, "a step of a charge is not journalled");
                    let again = actor.cashier.refused(key, record);
                    if again.is_some() {
                        context.run_later(JOURNAL_RETRY, |actor, context| actor.carry_out(again, context));
                    }
                }
            }
            Ok(appended.map(|_| ())?)
        }))
    }

    /// An awaited send: a full mailbox delays a report and loses none.
    fn tell(&mut self, report: Report, context: &mut Context<Self>) {
        if report.news == News::InDoubt {
            self.metrics.in_doubt.increment(1);
        }
        let Some(reports) = self.reports.clone() else { return };
        let sent = async move { reports.send(report).await };
        context.spawn(sent.into_actor(self).map(|sent, _, _| {
            if sent.is_err() {
                tracing::debug!("sessions have stopped; the next start asks for the outcome");
            }
        }));
    }

    fn arm(&mut self, context: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            context.cancel_future(timer);
        }
        let Some(deadline) = self.cashier.next_deadline().filter(|_| self.reports.is_some()) else { return };
        let wait = Duration::from_millis(deadline.since(steady_now()));
        self.timer = Some(context.run_later(wait, |actor, context| {
            actor.timer = None;
            for _ in 0..DUE_MAX {
                let Some(step) = actor.cashier.due(steady_now()) else { break };
                actor.carry_out(Some(step), context);
            }
            actor.arm(context);
        }));
    }

    /// Makes the charge known if the journal knows it.
    pub(super) fn remember(&self, key: ChargeKey) -> ResponseActFuture<Self, Result<(), Error>> {
        if self.cashier.knows(key) {
            return Box::pin(fut::ready(Ok(())));
        }
        let ledger = self.ledger.clone();
        let known = async move { ledger.of(Kind::Charge, key.0.to_vec()).await };
        Box::pin(known.into_actor(self).map(move |known, actor, _| {
            if actor.cashier.knows(key) {
                return Ok(());
            }
            for (_, entry) in known? {
                if let Err(error) = actor.cashier.take_up(&entry, steady_now()) {
                    tracing::error!(%error, ?key, "a journalled charge cannot be read");
                    return Err(Error::Ledger(LedgerError::Failed(error.to_string())));
                }
            }
            Ok(())
        }))
    }

    fn instruct(
        &mut self,
        instruction: Instruction,
        context: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<(), Error>> {
        let answer = match self.cashier.instruct(instruction.clone(), steady_now()) {
            Ok(Some(Step::Journal(key, record))) => return self.intend(key, record, instruction),
            Ok(step) => {
                self.carry_out(step, context);
                Ok(())
            }
            Err(Full) => {
                self.metrics.refused.increment(1);
                Err(Error::Full)
            }
        };
        Box::pin(fut::ready(answer))
    }

    /// The journal itself says when it knows the charge: one that was forgotten here must not be taken for a new one.
    fn intend(
        &mut self,
        key: ChargeKey,
        record: Record,
        instruction: Instruction,
    ) -> ResponseActFuture<Self, Result<(), Error>> {
        let journalled = self.journal(key, record);
        Box::pin(journalled.then(move |journalled, actor, _| match journalled {
            Err(Error::Ledger(LedgerError::Known)) => actor.instruct_known(instruction),
            other => Box::pin(fut::ready(other)),
        }))
    }

    fn instruct_known(&self, instruction: Instruction) -> ResponseActFuture<Self, Result<(), Error>> {
        Box::pin(self.remember(instruction.key()).then(move |known, actor, context| match known {
            Ok(()) => actor.instruct(instruction, context),
            Err(error) => Box::pin(fut::ready(Err(error))),
        }))
    }
}

impl Actor for PaymentActor {
    type Context = Context<Self>;
}

impl Handler<Instruct> for PaymentActor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, Instruct(instruction, span): Instruct, context: &mut Context<Self>) -> Self::Result {
        let instructed = span.in_scope(|| self.instruct(instruction, context));
        Box::pin(instructed.within(span))
    }
}

impl Handler<Ask> for PaymentActor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, Ask(instruction, span): Ask, _: &mut Context<Self>) -> Self::Result {
        let asked = self.remember(instruction.key()).map(move |known, actor: &mut Self, context| {
            known?;
            let step = actor.cashier.ask(instruction, steady_now());
            actor.carry_out(step, context);
            Ok(())
        });
        Box::pin(asked.within(span))
    }
}

impl Handler<Attach> for PaymentActor {
    type Result = ();

    fn handle(&mut self, Attach(reports): Attach, context: &mut Context<Self>) {
        self.reports = Some(reports);
        self.arm(context);
    }
}

impl Handler<Hinted> for PaymentActor {
    type Result = ();

    fn handle(&mut self, Hinted(Hint { session, key }, span): Hinted, context: &mut Context<Self>) {
        let hinted = self.remember(key).map(move |known, actor: &mut Self, context| {
            if let Err(error) = known {
                tracing::warn!(%error, "a charge that the PSP announced is not looked up now");
            }
            for key in actor.cashier.concerned(session, key) {
                actor.on_event(key, Event::Hinted, context);
            }
        });
        context.spawn(hinted.within(span));
    }
}
