//! The actor's calls to the gateway: what is sent and asked, and which event comes of it.

use actix::prelude::*;
use tracing::Span;

use super::{
    actor::PaymentActor,
    cashier::Record,
    gateway::{Answer, Finding, Guard, Place, Prepared, Task},
};
use crate::{
    engine::charge::{ChargeKey, Event, Instruction},
    ledger::Ledger,
    telemetry::{
        now, steady_now,
        trace::{InSpan as _, session_span},
    },
};

impl PaymentActor {
    /// In two steps: what the PSP prepares gets its name into the journal, and only then may money move.
    pub(super) fn send(&mut self, instruction: Instruction, context: &mut Context<Self>) {
        let key = instruction.key();
        let span = charge_span(&instruction);
        self.metrics.sent(instruction.operation);
        let (guard, ledger) = (self.guard.clone(), self.ledger.clone());
        let ready = self
            .task(instruction)
            .then(move |task, actor, _| async move { prepare(&guard, &ledger, key, task?).await }.into_actor(actor));
        let performed = ready.map(move |ready, actor: &mut Self, context| match ready {
            Ok((place, task)) => actor.perform(key, place, task, context),
            Err(event) => actor.on_event(key, event, context),
        });
        context.spawn(performed.within(span));
    }

    fn perform(&mut self, key: ChargeKey, place: Place, mut task: Task, context: &mut Context<Self>) {
        if let (Some(object), None) = (task.object.take(), task.instruction.of) {
            self.cashier.name(key, object);
        }
        task.object = self.cashier.object(key).map(str::to_owned);
        if !self.cashier.is_sending(key) {
            // Given up meanwhile: by now it may be somebody else's turn to move the money.
            return self.on_event(key, Event::NotSent, context);
        }
        let answer = async move { place.perform(&task).await };
        let answered = answer.into_actor(self).map(move |answer, actor: &mut Self, context| {
            let event = match answer {
                Answer::Succeeded { amount, reference } => Event::Answered { amount, reference },
                Answer::Declined => Event::AnsweredDeclined,
                Answer::NoAnswer => Event::NoAnswer,
                Answer::NotSent => Event::NotSent,
            };
            actor.on_event(key, event, context);
        });
        context.spawn(answered.within_current());
    }

    pub(super) fn look_up(&mut self, key: ChargeKey, context: &mut Context<Self>) {
        let Some(instruction) = self.cashier.charge(key).map(|charge| charge.instruction.clone()) else { return };
        let span = session_span!("look_up", instruction.session, ordinal = instruction.ordinal);
        self.metrics.look_ups.increment(1);
        let asked_at = steady_now();
        let close = self.cashier.may_be_closed(key, asked_at);
        let guard = self.guard.clone();
        let finding = self.task(instruction).then(move |task, actor, _| {
            async move {
                match task {
                    Ok(task) => guard.look_up(&task, close).await,
                    Err(_) => Finding::NoAnswer,
                }
            }
            .into_actor(actor)
        });
        let found = finding.map(move |finding, actor: &mut Self, context| {
            let event = match finding {
                Finding::Succeeded { amount, reference } => Event::Answered { amount, reference },
                Finding::Declined => Event::AnsweredDeclined,
                Finding::NotFound => Event::NotFound { asked_at },
                Finding::NoAnswer => Event::NoAnswer,
            };
            actor.on_event(key, event, context);
        });
        context.spawn(found.within(span));
    }

    /// An instruction with the PSP's object that it works on, for which the charge it refers to may have to be read
    /// from the journal. `NotSent` when that fails.
    fn task(&self, instruction: Instruction) -> ResponseActFuture<Self, Result<Task, Event>> {
        let known = match instruction.of {
            Some(of) => self.remember(of),
            None => Box::pin(fut::ready(Ok(()))),
        };
        Box::pin(known.map(|known, actor, _| match known {
            Ok(()) => Ok(Task { object: actor.cashier.object(instruction.key()).map(str::to_owned), instruction }),
            Err(_) => Err(Event::NotSent),
        }))
    }
}

fn charge_span(instruction: &Instruction) -> Span {
    let operation = tracing::field::debug(instruction.operation);
    session_span!("charge", instruction.session, ordinal = instruction.ordinal, operation)
}

/// A place at the PSP, and its object for the instruction, with the name in the journal.
async fn prepare(guard: &Guard, ledger: &Ledger, key: ChargeKey, mut task: Task) -> Result<(Place, Task), Event> {
    let place = guard.place().await.ok_or(Event::NotSent)?;
    if task.object.is_some() {
        return Ok((place, task));
    }
    match place.prepare(&task.instruction).await {
        Prepared::Ready { object: None } => {}
        Prepared::Ready { object: Some(object) } => {
            let named = ledger.append(vec![Record::Named(object.clone()).entry(key, now())]).await;
            named.map_err(|error| {
                tracing::error!(%error, ?key, "the PSP's name of a charge is not journalled: it is not sent");
                Event::NotSent
            })?;
            task.object = Some(object);
        }
        Prepared::Declined => return Err(Event::AnsweredDeclined),
        Prepared::NotSent => return Err(Event::NotSent),
    }
    Ok((place, task))
}
