//! The actor: carries what the [`Cashier`] decides to the journal, the gateway and the sessions.

use std::time::Duration;

use actix::prelude::*;

use super::{
    Answer, Error, Finding, Gateway, News, Report, StartError,
    cashier::{Cashier, FORMAT, Full, Record},
    metrics::Metrics,
};
use crate::{
    engine::charge::{Action, ChargeKey, Event, Instruction, Outcome},
    ledger::{self, Entry, Kind, Ledger, LedgerError},
    telemetry::now,
};

/// Pause before an outcome that the journal did not take is offered to it again.
const JOURNAL_RETRY: Duration = Duration::from_secs(1);

/// Charges that are looked at in one turn of the timer.
const DUE_MAX: usize = 256;

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Instruct(pub Instruction);

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Ask(pub Instruction);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Attach {
    pub reports: Recipient<Report>,
    pub resumed: Vec<(Instruction, bool)>,
}

pub(super) struct PaymentActor {
    cashier: Cashier,
    gateway: Gateway,
    ledger: Ledger,
    /// How long the gateway may take.
    limit: Duration,
    reports: Option<Recipient<Report>>,
    timer: Option<SpawnHandle>,
    metrics: Metrics,
}

/// Rebuilds the cashier from the journal.
pub(super) fn recover(cashier: &mut Cashier, ledger: &Ledger) -> Result<(), StartError> {
    let mut outcome = Ok(());
    ledger.replay(|_, entry| {
        if entry.kind == Kind::Charge && outcome.is_ok() {
            outcome = take_up(cashier, &entry);
        }
    })?;
    outcome
}

fn take_up(cashier: &mut Cashier, entry: &Entry) -> Result<(), StartError> {
    if entry.format != FORMAT {
        return Err(StartError::Format(entry.format));
    }
    let key = entry.subject.as_slice().try_into().map_err(|_| StartError::Format(entry.format))?;
    cashier.recover(ChargeKey(key), ledger::decode(&entry.payload)?, entry.at);
    Ok(())
}

impl PaymentActor {
    pub(super) fn new(cashier: Cashier, gateway: Gateway, ledger: Ledger, limit: Duration) -> PaymentActor {
        PaymentActor { cashier, gateway, ledger, limit, reports: None, timer: None, metrics: Metrics::new() }
    }

    /// Carries out one decision, then sets the timer for the next one.
    fn act(&mut self, key: ChargeKey, action: Action, context: &mut Context<Self>) {
        match action {
            Action::Nothing => {}
            Action::Send => self.send(key, context),
            Action::Ask => self.look_up(key, context),
            Action::Doubt => {
                self.metrics.in_doubt.increment(1);
                self.report(key, News::InDoubt, context);
            }
            Action::Conclude(outcome) => self.conclude(key, outcome, context),
            Action::Tell(outcome) => self.report(key, News::Concluded(outcome), context),
            Action::GiveUp => self.give_up(key, context),
        }
        self.metrics.open.set(self.cashier.open_count() as f64);
        self.arm(context);
    }

    fn on_event(&mut self, key: ChargeKey, event: Event, context: &mut Context<Self>) {
        let action = self.cashier.on_event(key, event, now());
        self.act(key, action, context);
    }

    fn send(&mut self, key: ChargeKey, context: &mut Context<Self>) {
        let Some(instruction) = self.cashier.instruction(key).cloned() else { return };
        self.metrics.sent(instruction.operation);
        self.on_event(key, Event::Sent, context);
        let (gateway, limit) = (self.gateway.clone(), self.limit);
        let answer = async move { tokio::time::timeout(limit, gateway.perform(instruction)).await };
        context.spawn(answer.into_actor(self).map(move |answer, actor, context| {
            let event = match answer.unwrap_or(Answer::NoAnswer) {
                Answer::Succeeded { amount, reference } => Event::Answered { amount, reference },
                Answer::Declined => Event::AnsweredDeclined,
                Answer::NoAnswer => Event::NoAnswer,
            };
            actor.on_event(key, event, context);
        }));
    }

    fn look_up(&mut self, key: ChargeKey, context: &mut Context<Self>) {
        self.metrics.look_ups.increment(1);
        let (gateway, limit) = (self.gateway.clone(), self.limit);
        let finding = async move { tokio::time::timeout(limit, gateway.look_up(key)).await };
        context.spawn(finding.into_actor(self).map(move |finding, actor, context| {
            let event = match finding.unwrap_or(Finding::NoAnswer) {
                Finding::Succeeded { amount, reference } => Event::Answered { amount, reference },
                Finding::Declined => Event::AnsweredDeclined,
                Finding::NotFound => Event::NotFound,
                Finding::NoAnswer => Event::NoAnswer,
            };
            actor.on_event(key, event, context);
        }));
    }

    /// The outcome is durable before the session hears of it; a journal that fails is offered it again.
    fn conclude(&mut self, key: ChargeKey, outcome: Outcome, context: &mut Context<Self>) {
        let append = self.journal(key, &Record::Concluded(outcome.clone()));
        context.spawn(append.into_actor(self).map(move |appended, actor, context| match appended {
            Ok(()) => {
                actor.metrics.concluded(&outcome);
                actor.report(key, News::Concluded(outcome), context);
            }
            // The engine stops; the next start asks the PSP for the outcome.
            Err(Error::Ledger(LedgerError::Closed)) => {}
            Err(error) => {
                tracing::error!(%error, ?key, "the outcome of a charge is not journalled yet");
                context.run_later(JOURNAL_RETRY, move |actor, context| actor.conclude(key, outcome, context));
            }
        }));
    }

    fn give_up(&mut self, key: ChargeKey, context: &mut Context<Self>) {
        tracing::error!(?key, "a charge stayed unknown for a week: reconciliation has to tell");
        let append = self.journal(key, &Record::Unresolved);
        context.spawn(append.into_actor(self).map(|appended, _, _| {
            if let Err(error) = appended {
                tracing::error!(%error, "an unresolved charge is not journalled: the next start asks about it again");
            }
        }));
    }

    fn journal(&self, key: ChargeKey, record: &Record) -> impl Future<Output = Result<(), Error>> + 'static {
        let entry = Entry {
            at: now(),
            kind: Kind::Charge,
            subject: key.0.to_vec(),
            format: FORMAT,
            payload: ledger::encode(record),
        };
        let ledger = self.ledger.clone();
        async move { Ok(ledger.append(vec![entry]).await.map(|_| ())?) }
    }

    fn report(&mut self, key: ChargeKey, news: News, context: &mut Context<Self>) {
        let Some(instruction) = self.cashier.instruction(key) else { return };
        self.tell(Report { session: instruction.session, ordinal: instruction.ordinal, news }, context);
    }

    /// An awaited send: a full mailbox delays a report and loses none.
    fn tell(&mut self, report: Report, context: &mut Context<Self>) {
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
        let wait = Duration::from_millis(deadline.since(now()));
        self.timer = Some(context.run_later(wait, |actor, context| {
            actor.timer = None;
            for _ in 0..DUE_MAX {
                let Some((key, action)) = actor.cashier.due(now()) else { break };
                actor.act(key, action, context);
            }
            actor.arm(context);
        }));
    }

    /// Makes the charge known if the journal knows it: one that was evicted must not be taken for a new one.
    fn remember(&self, key: ChargeKey) -> ResponseActFuture<Self, Result<(), Error>> {
        if self.cashier.knows(key) {
            return Box::pin(fut::ready(Ok(())));
        }
        let ledger = self.ledger.clone();
        let known = async move { ledger.of(Kind::Charge, key.0.to_vec()).await };
        Box::pin(known.into_actor(self).map(move |known, actor, _| {
            if actor.cashier.knows(key) {
                return Ok(());
            }
            for entry in known? {
                if let Err(error) = take_up(&mut actor.cashier, &entry) {
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
        let key = instruction.key();
        if self.cashier.knows(key) {
            self.on_event(key, Event::Wanted, context);
            return Box::pin(fut::ready(Ok(())));
        }
        if self.cashier.intend(instruction.clone(), now()) == Err(Full) {
            self.metrics.refused.increment(1);
            return Box::pin(fut::ready(Err(Error::Full)));
        }
        let append = self.journal(key, &Record::Intended(instruction));
        Box::pin(append.into_actor(self).map(move |appended, actor, context| {
            match &appended {
                Ok(()) => actor.send(key, context),
                Err(_) => actor.cashier.withdraw(key),
            }
            appended
        }))
    }
}

impl Actor for PaymentActor {
    type Context = Context<Self>;
}

impl Handler<Instruct> for PaymentActor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, Instruct(instruction): Instruct, _: &mut Context<Self>) -> Self::Result {
        let known = self.remember(instruction.key());
        Box::pin(known.then(move |known, actor, context| match known {
            Ok(()) => actor.instruct(instruction, context),
            Err(error) => Box::pin(fut::ready(Err(error))),
        }))
    }
}

impl Handler<Ask> for PaymentActor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, Ask(instruction): Ask, _: &mut Context<Self>) -> Self::Result {
        let key = instruction.key();
        Box::pin(self.remember(key).map(move |known, actor, context| {
            known?;
            if actor.cashier.knows(key) {
                actor.on_event(key, Event::Unwanted, context);
            } else {
                let Instruction { session, ordinal, .. } = instruction;
                actor.tell(Report { session, ordinal, news: News::Concluded(Outcome::Failed) }, context);
            }
            Ok(())
        }))
    }
}

impl Handler<Attach> for PaymentActor {
    type Result = ();

    fn handle(&mut self, Attach { reports, resumed }: Attach, context: &mut Context<Self>) {
        self.reports = Some(reports);
        for (instruction, wanted) in resumed {
            let told = self.resume(instruction, wanted);
            context.spawn(told);
        }
        self.arm(context);
    }
}

impl PaymentActor {
    /// As [`Instruct`] or [`Ask`], from a session that was rebuilt.
    fn resume(&self, instruction: Instruction, wanted: bool) -> ResponseActFuture<Self, ()> {
        let key = instruction.key();
        Box::pin(self.remember(key).then(move |known, actor, context| {
            let done: ResponseActFuture<Self, Result<(), Error>> = match known {
                Ok(()) if wanted => actor.instruct(instruction, context),
                Ok(()) => Handler::handle(actor, Ask(instruction), context),
                Err(error) => Box::pin(fut::ready(Err(error))),
            };
            done.map(|done, _, _| {
                if let Err(error) = done {
                    tracing::error!(%error, "a session's charge was not taken up again");
                }
            })
        }))
    }
}
