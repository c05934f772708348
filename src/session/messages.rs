//! What the desk is asked, each with its handler. A session that was forgotten is recalled from the journal first.

use actix::prelude::*;
use tokio::sync::broadcast;
use tracing::{Span, field::Empty};

use super::{
    By, Command, Error, Follow, Open, Order, Receipt, Request, SessionChanged, SessionView, Summary, Told, Watching,
    Word,
    actor::{SessionDesk, moment},
    prices::PricesSet,
    slot::{Cause, Job, Reply},
};
use crate::{
    engine::{
        id::{BindingId, SessionId, StationId},
        session::Effect,
    },
    ledger::Seq,
    payment::Report,
    telemetry::{
        now,
        trace::{InSpan as _, session_span},
    },
};

macro_rules! message {
    ($name:ident($($field:ty),*) -> $result:ty) => {
        pub(super) struct $name($(pub(super) $field),*);

        impl Message for $name {
            type Result = $result;
        }
    };
}

// The answer of these two goes to the reply, once it is durable.
message!(OpenSession(Open, Reply, Span) -> ());
message!(Give(Order, Reply, Span) -> ());
message!(See(SessionId, By) -> Result<SessionView, Error>);
message!(SeeReceipt(SessionId, By) -> Result<Receipt, Error>);
message!(Repeated(SessionId, Request) -> Result<Option<SessionView>, Error>);
message!(AttachStation(StationId, Follow, Recipient<SessionChanged>) -> ());
message!(WatchPhone(BindingId, Option<Seq>) -> Watching);
message!(TellStation(StationId, Option<Seq>) -> Told);
message!(WatchWords() -> (Vec<Word>, broadcast::Receiver<Word>));
message!(SetPrices(StationId, PricesSet) -> Result<(), Error>);
message!(Summarise() -> Summary);
message!(LetGo(Vec<SessionId>) -> Vec<SessionId>);
message!(Keep(Vec<SessionId>) -> ());
// Once payments know whom to tell: what the journal left unsettled is taken up.
message!(TakeUp() -> ());

/// Not recalled first: the journal itself says when it knows the session.
impl Handler<OpenSession> for SessionDesk {
    type Result = ();

    fn handle(&mut self, OpenSession(open, reply, span): OpenSession, context: &mut Context<Self>) {
        let _within = span.enter();
        let id = open.session;
        if let Some(entry) = self.desk.open(open, reply, moment()) {
            self.journal(id, entry, context);
        }
    }
}

impl Handler<Give> for SessionDesk {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Give(order, reply, span): Give, _: &mut Context<Self>) -> Self::Result {
        let given = self.recall(order.session).map(move |(), actor: &mut Self, context| {
            if matches!(order.command, Command::Prove { .. }) {
                return actor.prove(order, reply, context);
            }
            let Order { session, by, request, command } = order;
            let cause = Cause::Order { by, command, witness: None };
            actor.submit(session, Job::order(cause, request, reply), context);
        });
        Box::pin(given.within(span))
    }
}

impl Handler<See> for SessionDesk {
    type Result = ResponseActFuture<Self, Result<SessionView, Error>>;

    fn handle(&mut self, See(session, by): See, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.recall(session).map(move |(), actor, _| actor.desk.view(session, by)))
    }
}

impl Handler<SeeReceipt> for SessionDesk {
    type Result = ResponseActFuture<Self, Result<Receipt, Error>>;

    fn handle(&mut self, SeeReceipt(session, by): SeeReceipt, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.recall(session).map(move |(), actor, _| actor.desk.receipt(session, by)))
    }
}

impl Handler<Repeated> for SessionDesk {
    type Result = ResponseActFuture<Self, Result<Option<SessionView>, Error>>;

    fn handle(&mut self, Repeated(session, request): Repeated, _: &mut Context<Self>) -> Self::Result {
        Box::pin(self.recall(session).map(move |(), actor, _| actor.desk.repeated(session, request)))
    }
}

impl Handler<AttachStation> for SessionDesk {
    type Result = ();

    fn handle(&mut self, AttachStation(station, follow, actor): AttachStation, _: &mut Context<Self>) {
        self.desk.of_station(station).iter().for_each(&follow);
        self.watchers.attach(station, follow, actor);
    }
}

impl Handler<WatchPhone> for SessionDesk {
    type Result = MessageResult<WatchPhone>;

    fn handle(&mut self, WatchPhone(binding, after): WatchPhone, _: &mut Context<Self>) -> Self::Result {
        let told = Told { seq: self.desk.seq().0, sessions: self.desk.told_phone(binding, after) };
        MessageResult((told, self.watchers.watch(binding)))
    }
}

impl Handler<TellStation> for SessionDesk {
    type Result = MessageResult<TellStation>;

    fn handle(&mut self, TellStation(station, after): TellStation, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Told { seq: self.desk.seq().0, sessions: self.desk.told_station(station, after) })
    }
}

impl Handler<WatchWords> for SessionDesk {
    type Result = MessageResult<WatchWords>;

    fn handle(&mut self, _: WatchWords, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.desk.words(), self.watchers.watch_words()))
    }
}

impl Handler<SetPrices> for SessionDesk {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, SetPrices(station, set): SetPrices, _: &mut Context<Self>) -> Self::Result {
        match self.desk.prices.check(station, &set) {
            Ok(true) => {}
            known => return Box::pin(fut::ready(known.map(|_| ()))),
        }
        let at = now();
        let (ledger, entry) = (self.ledger.clone(), set.entry(station, at));
        let appended = async move { ledger.append(vec![entry]).await };
        Box::pin(appended.into_actor(self).map(move |appended, actor, _| match appended {
            Ok(_) => {
                actor.desk.prices.set(station, set, at);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, %station, "prices are not journalled");
                Err(Error::Unavailable)
            }
        }))
    }
}

impl Handler<Summarise> for SessionDesk {
    type Result = MessageResult<Summarise>;

    fn handle(&mut self, _: Summarise, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.desk.summary())
    }
}

impl Handler<LetGo> for SessionDesk {
    type Result = MessageResult<LetGo>;

    fn handle(&mut self, LetGo(sessions): LetGo, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.desk.let_go(sessions))
    }
}

impl Handler<Keep> for SessionDesk {
    type Result = ();

    fn handle(&mut self, Keep(sessions): Keep, _: &mut Context<Self>) {
        self.desk.keep(&sessions);
    }
}

impl Handler<TakeUp> for SessionDesk {
    type Result = ();

    fn handle(&mut self, _: TakeUp, context: &mut Context<Self>) {
        for effect in self.desk.unsettled() {
            let (Effect::Instruct(unsettled) | Effect::Ask(unsettled)) = &effect else { continue };
            let recovery = session_span!("recovery", unsettled.session);
            recovery.in_scope(|| self.run([effect], context));
        }
    }
}

impl Handler<Report> for SessionDesk {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, report: Report, _: &mut Context<Self>) -> Self::Result {
        let session = report.session;
        let reported = self.recall(session).map(move |(), actor: &mut Self, context| {
            actor.submit(session, Job::reported(report), context);
        });
        Box::pin(reported.within(session_span!("report", session, event = Empty, state = Empty)))
    }
}
