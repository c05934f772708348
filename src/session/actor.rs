//! The actor: carries what the [`Desk`] decides to the journal, the payments, the stations and the phones.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tracing::{Instrument as _, field::Empty};

use super::{
    Config, Error, Order,
    desk::{Desk, Done},
    funnel::Funnel,
    metrics::Metrics,
    orders::Witness,
    record::Unreadable,
    slot::{Cause, Job, Reply, answer_to},
    watchers::Watchers,
};
use crate::{
    engine::{
        charge::Instruction,
        id::{BindingId, SessionId},
        session::{Effect, Event, Moment, Standing},
    },
    ledger::{Entry, Kind, Ledger, LedgerError, Seq},
    payment::Payments,
    registration::{Change, Registration, Registrations},
    telemetry::{
        now,
        trace::{self, InSpan as _, session_span, step},
    },
};

/// Pause before payments or the journal are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Deadlines that are looked at in one turn of the timer.
const DUE_MAX: usize = 256;

const HOUSEKEEPING: Duration = Duration::from_secs(60);

pub(super) struct SessionDesk {
    pub(super) desk: Desk,
    pub(super) ledger: Ledger,
    payments: Payments,
    registrations: Registrations,
    pub(super) watchers: Watchers,
    timer: Option<SpawnHandle>,
    funnel: Funnel,
    metrics: Metrics,
}

/// What became of an event that went to the journal.
enum Appended {
    Durable(Seq),
    /// Its site transaction is another session's.
    Refused,
    /// It failed, with where the journal holds the session's events now.
    InDoubt(Option<Vec<Seq>>),
    /// The session is in the journal already.
    Known(Result<Vec<(Seq, Entry)>, LedgerError>),
}

/// What stops a rebuild of the sessions.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the journal cannot be read: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("what was in flight is not taken up: {0}")]
    Payments(#[from] crate::payment::Error),
}

/// Rebuilds every session and the prices from the journal.
pub(super) fn recover(desk: &mut Desk, ledger: &Ledger) -> Result<(), StartError> {
    let mut outcome = Ok(());
    ledger.replay(|seq, entry| {
        if outcome.is_ok() {
            outcome = desk.recover(seq, &entry);
        }
    })?;
    outcome?;
    for session in desk.missed() {
        desk.recall(session, &ledger.read(Kind::Session, &session.0)?)?;
    }
    Ok(())
}

/// Now, and a nonce in case the session has to challenge.
pub(super) fn moment() -> Moment {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).expect("the operating system has random numbers");
    Moment { at: now(), nonce }
}

fn standing(registration: Option<&Arc<Registration>>, binding: BindingId, epoch: u64) -> Standing {
    match registration {
        Some(known) if known.binding == binding => Standing {
            active: known.is_active(),
            epoch: known.epoch,
            phone: known.phone,
            means: known.means.clone(),
            provable: known.provable,
        },
        // The dongle is another binding's by now, or nobody's.
        _ => Standing { active: false, epoch, phone: None, means: Vec::new(), provable: false },
    }
}

impl SessionDesk {
    pub(super) fn new(
        config: &Config,
        desk: Desk,
        ledger: Ledger,
        payments: Payments,
        registrations: Registrations,
    ) -> SessionDesk {
        let (funnel, mut metrics) = (Funnel::of(desk.open_views()), Metrics::new());
        metrics.show(&funnel);
        SessionDesk {
            desk,
            ledger,
            payments,
            registrations,
            watchers: Watchers::new(config.watch_max),
            timer: None,
            funnel,
            metrics,
        }
    }

    pub(super) fn submit(&mut self, id: SessionId, job: Job, context: &mut Context<Self>) {
        if let Some(entry) = self.desk.submit(id, job, moment()) {
            self.journal(id, entry, context);
        }
        self.arm(context);
    }

    /// Journals one event; whatever comes of it goes to [`finish`](Self::finish).
    pub(super) fn journal(&mut self, id: SessionId, entry: Entry, context: &mut Context<Self>) {
        let (ledger, claim, is_first) = (self.ledger.clone(), self.desk.claim(id), self.desk.is_opening(id));
        let appended = async move {
            let appended =
                if is_first { ledger.begin(entry).await } else { ledger.append_claiming(vec![entry], claim).await };
            match appended {
                Ok(seq) => Appended::Durable(seq),
                Err(LedgerError::Claimed) => Appended::Refused,
                Err(LedgerError::Known) => Appended::Known(ledger.of(Kind::Session, id.0.to_vec()).await),
                Err(error) => {
                    // Of an engine that stops: nobody was answered, and the next start takes the session up.
                    if error == LedgerError::Closed {
                        tracing::debug!(session = %id, "an event came too late for this journal");
                    } else {
                        tracing::error!(%error, session = %id, "an event is not journalled");
                    }
                    Appended::InDoubt(read_back(&ledger, id).await)
                }
            }
        };
        let span = self.desk.span(id);
        let finished = appended.into_actor(self).map(move |appended, actor: &mut Self, context| {
            let done = match appended {
                Appended::Durable(seq) => actor.desk.committed(id, seq, moment()),
                Appended::Refused => actor.desk.refused(id, moment()),
                Appended::Known(entries) => actor.begun_before(id, entries),
                Appended::InDoubt(journalled) => {
                    actor.metrics.journal_failures.increment(1);
                    actor.desk.failed(id, journalled.as_deref(), moment())
                }
            };
            actor.finish(id, done, context);
        });
        context.spawn(finished.within(span));
    }

    fn finish(&mut self, id: SessionId, done: Done, context: &mut Context<Self>) {
        if let Some(view) = done.changed {
            tracing::debug!(state = ?view.state, version = view.version, "a session has changed");
            let left = self.metrics.changed(&view, &self.desk.summary(), &mut self.funnel);
            if view.is_end && left.is_some() {
                trace::ended(id, view.station, view.state, view.opened_at, view.updated_at);
            }
            self.watchers.publish(&view, &self.metrics);
        }
        self.run(done.effects, context);
        if let Some(entry) = done.next {
            self.journal(id, entry, context);
        }
        if let Some(event) = done.again {
            context.run_later(RETRY, move |actor, context| {
                let job = session_span!("again", id, event = Empty, state = Empty).in_scope(|| Job::event(event));
                actor.submit(id, job, context);
            });
        }
        self.arm(context);
    }

    /// Words to phone and station are in the view, which has been published.
    pub(super) fn run(&mut self, effects: impl IntoIterator<Item = Effect>, context: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Instruct(instruction) => self.instruct(instruction, context),
                Effect::Ask(instruction) => self.ask(instruction, context),
                Effect::NotifyPhone(_) | Effect::NotifyStation(_) => {}
            }
        }
    }

    fn instruct(&mut self, instruction: Instruction, context: &mut Context<Self>) {
        let payments = self.payments.clone();
        let copy = instruction.clone();
        let taken = async move { payments.instruct(copy).await };
        let taken = taken.into_actor(self).map(move |taken, actor: &mut Self, context| match taken {
            Ok(()) => {
                let span = session_span!("taken", instruction.session, event = Empty, state = Empty);
                if let Some(job) = span.in_scope(|| Job::taken(&instruction)) {
                    actor.submit(instruction.session, job, context);
                }
            }
            Err(error) => actor.retry(&error, instruction, context),
        });
        context.spawn(taken.within_current());
    }

    fn ask(&mut self, instruction: Instruction, context: &mut Context<Self>) {
        let payments = self.payments.clone();
        let copy = instruction.clone();
        let asked = async move { payments.ask(copy).await };
        let asked = asked.into_actor(self).map(move |asked, actor: &mut Self, context| {
            if let Err(error) = asked {
                actor.retry(&error, instruction, context);
            }
        });
        context.spawn(asked.within_current());
    }

    fn retry(&mut self, error: &crate::payment::Error, instruction: Instruction, context: &mut Context<Self>) {
        tracing::warn!(%error, session = %instruction.session, "payments did not take an instruction");
        self.metrics.payment_retries.increment(1);
        context.run_later(RETRY, move |actor, context| {
            let effect = actor.desk.again(&instruction);
            let retry = session_span!("retry", instruction.session);
            retry.in_scope(|| actor.run(effect, context));
        });
    }

    fn arm(&mut self, context: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            context.cancel_future(timer);
        }
        let Some(deadline) = self.desk.next_deadline() else { return };
        let wait = Duration::from_millis(deadline.since(now()));
        self.timer = Some(context.run_later(wait, |actor, context| {
            actor.timer = None;
            for id in actor.desk.due(now(), DUE_MAX) {
                let deadline = session_span!("deadline", id, event = Empty, state = Empty);
                actor.submit(id, deadline.in_scope(|| Job::event(Event::DeadlinePassed)), context);
            }
            actor.arm(context);
        }));
    }

    /// A session that was to be opened is one that was forgotten here: the request came again.
    fn begun_before(&mut self, id: SessionId, entries: Result<Vec<(Seq, Entry)>, LedgerError>) -> Done {
        // Without its entries, who asked is told that there is no answer at present.
        let read = entries.map_err(StartError::from);
        let known = self.desk.begun_before(id, read.as_deref().unwrap_or_default());
        let known = read.and(known.map_err(StartError::from));
        if let Err(error) = known {
            tracing::error!(%error, session = %id, "a session cannot be recalled from the journal");
        }
        Done::default()
    }

    /// Makes sure that a session which was forgotten is known again, if there ever was one.
    pub(super) fn recall(&self, id: SessionId) -> ResponseActFuture<Self, ()> {
        if self.desk.knows(id) {
            return Box::pin(fut::ready(()));
        }
        let ledger = self.ledger.clone();
        let entries = async move { ledger.of(Kind::Session, id.0.to_vec()).await };
        Box::pin(entries.into_actor(self).map(move |entries, actor, _| {
            let recalled = entries.map_err(StartError::from).and_then(|entries| Ok(actor.desk.recall(id, &entries)?));
            if let Err(error) = recalled {
                tracing::error!(%error, session = %id, "a session cannot be recalled from the journal");
            }
        }))
    }

    /// A proof is judged by what the registrations say at this moment.
    pub(super) fn prove(&mut self, order: Order, reply: Reply, context: &mut Context<Self>) {
        let Order { session, by, request, command } = order;
        let Some((device, binding, epoch)) = self.desk.device(session) else {
            return answer_to(Some(reply), Err(Error::NotFound));
        };
        let registrations = self.registrations.clone();
        let read = step!("registration");
        let witness = async move {
            let registration = registrations.find(device).await?;
            let key = registrations.proof_key(device).await?;
            Ok(Witness { standing: standing(registration.as_ref(), binding, epoch), key })
        }
        .instrument(read);
        let proven = witness.into_actor(self).map(
            move |witness: Result<Witness, crate::registration::Unavailable>, actor: &mut Self, context| match witness {
                Ok(witness) => {
                    let cause = Cause::Order { by, command, witness: Some(Box::new(witness)) };
                    actor.submit(session, Job::order(cause, request, reply), context);
                }
                Err(error) => {
                    tracing::error!(%error, %session, "a proof cannot be judged");
                    answer_to(Some(reply), Err(Error::Unavailable));
                }
            },
        );
        context.spawn(proven.within_current());
    }

    fn on_binding(&mut self, sessions: Vec<SessionId>, context: &mut Context<Self>) {
        for session in sessions {
            let Some((device, binding, epoch)) = self.desk.device(session) else { continue };
            let registrations = self.registrations.clone();
            let found = async move { registrations.find(device).await };
            let looked_up = found.into_actor(self).map(move |found, actor: &mut Self, context| match found {
                Ok(registration) => {
                    let standing = standing(registration.as_ref(), binding, epoch);
                    actor.submit(session, Job::event(Event::BindingChanged(standing)), context);
                }
                // The proof is judged by the binding as it is then, whether or not the session heard of the change.
                Err(error) => tracing::warn!(%error, %session, "a changed binding cannot be looked up"),
            });
            context.spawn(looked_up.within(session_span!("binding", session, event = Empty, state = Empty)));
        }
    }
}

/// Where the journal holds a session's events after an append failed: the failure alone does not say whether its event is
/// among them. Asked until there is an answer, for the session stands still meanwhile; `None` once the journal is closed.
async fn read_back(ledger: &Ledger, id: SessionId) -> Option<Vec<Seq>> {
    loop {
        match ledger.of(Kind::Session, id.0.to_vec()).await {
            Ok(entries) => return Some(entries.into_iter().map(|(seq, _)| seq).collect()),
            Err(LedgerError::Closed) => return None,
            Err(error) => tracing::error!(%error, session = %id, "the journal cannot be read back"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Actor for SessionDesk {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.add_stream(BroadcastStream::new(self.registrations.changes()));
        context.run_interval(HOUSEKEEPING, |actor, _| {
            actor.desk.evict(now());
            actor.watchers.sweep();
        });
        self.arm(context);
    }
}

impl StreamHandler<Result<Change, BroadcastStreamRecvError>> for SessionDesk {
    fn handle(&mut self, change: Result<Change, BroadcastStreamRecvError>, context: &mut Context<Self>) {
        let sessions = match change {
            Ok(change) => self.desk.open_of_binding(change.binding),
            Err(BroadcastStreamRecvError::Lagged(_)) => self.desk.open_sessions(),
        };
        self.on_binding(sessions, context);
    }

    /// The registrations end before the sessions do: that is no reason to stop.
    fn finished(&mut self, _: &mut Context<Self>) {}
}
