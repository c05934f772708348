//! Live changes as server-sent events: a `snapshot`, then the changes after it.
//!
//! A stream that was cut goes on without loss by its snapshot, and not by a memory of events: sessions are versioned, a
//! snapshot holds all that is not at an end, and what came to one since the reader's `Last-Event-ID`. So nothing is kept
//! per reader, and a restart of the engine is a cut like any other. An `id` is a place in the journal.
//!
//! Changes come through a bounded channel. A reader that falls behind has lost some, so it gets a new snapshot
//! instead, as if it had come again: what it shows is whole, and nobody waits for it. Streams are bounded, since each
//! holds a connection and a buffer for as long as its reader likes; they end when the engine drains, and when the reader's
//! token is void.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::sse::{Event, KeepAlive, KeepAliveStream, Sse},
};
use futures_util::{
    future::{self, BoxFuture},
    stream::{BoxStream, StreamExt as _, unfold},
};
use serde::Serialize;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    broadcast::{Receiver, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use super::{
    auth::UntilVoid,
    metrics::Streams,
    problem::{Code, Problem},
};

/// Half of the shortest idle time (30 s) after which common proxies close a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) type EventStream = Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>>;

/// The door to the streams.
#[derive(Clone)]
pub(super) struct Events {
    places: Arc<Semaphore>,
    streams: Arc<Streams>,
    shutdown: CancellationToken,
}

/// The present, the place in the journal that it stands for, and the changes after it.
pub(super) struct Watch<S, C> {
    pub(super) id: u64,
    pub(super) snapshot: S,
    pub(super) changes: Receiver<C>,
}

pub(super) type Watching<'a, S, C> = BoxFuture<'a, Result<Watch<S, C>, Problem>>;

/// Where a stream's events come from.
pub(super) trait Source: Send + 'static {
    type Snapshot: Serialize + Send;
    type Change: Clone + Send + 'static;

    /// The present, with all that changed since the event `after`, and the changes from here on. Asked again after the
    /// reader fell behind.
    fn watch(&self, after: Option<u64>) -> Watching<'_, Self::Snapshot, Self::Change>;

    /// The place of a change in the journal, if it is there.
    fn id(change: &Self::Change) -> Option<u64>;

    fn event(&self, change: Self::Change) -> Event;
}

/// The `Last-Event-ID` of a reader that comes again. One that is no id of ours says nothing: it may be of a time before
/// this engine, and a reader that cannot come again for it would be lost.
pub(super) struct After(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for After {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<After, Infallible> {
        let id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        Ok(After(id.and_then(|id| id.trim().parse().ok())))
    }
}

impl Events {
    pub(super) fn new(streams_max: usize, shutdown: CancellationToken) -> Events {
        Events { places: Arc::new(Semaphore::new(streams_max)), streams: Arc::new(Streams::new()), shutdown }
    }

    /// Opens a stream; what refuses the first snapshot refuses the call.
    pub(super) async fn stream<S: Source>(
        &self,
        source: S,
        After(after): After,
        UntilVoid(until_void): UntilVoid,
    ) -> Result<EventStream, Problem> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.streams.refused.increment(1);
            return Err(Problem::new(Code::Overloaded, "too many event streams are open"));
        };
        let open = Open::new(place, self.streams.clone());
        let Watch { id, snapshot, changes } = source.watch(after).await?;
        let reading = Reading { source, changes, first: Some(beginning(id, &snapshot)), told: id, open };
        let events = unfold(reading, |mut reading| async move {
            let event = reading.next().await?;
            Some((Ok(event), reading))
        });
        let ended = future::select(Box::pin(self.shutdown.clone().cancelled_owned()), until_void);
        let events = events.take_until(ended).boxed();
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
    }
}

/// One reader's stream.
struct Reading<S: Source> {
    source: S,
    changes: Receiver<S::Change>,
    first: Option<Event>,
    /// The id of the last event that was told.
    told: u64,
    open: Open,
}

impl<S: Source> Reading<S> {
    /// `None` ends the stream: its source is gone, and the reader comes again.
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.changes.recv().await {
            Ok(change) => Some(self.tell(change)),
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => None,
        }
    }

    /// What has no place in the journal has no id: the reader's last one stays.
    fn tell(&mut self, change: S::Change) -> Event {
        let id = S::id(&change);
        let event = self.source.event(change);
        let Some(id) = id else { return event };
        self.told = id;
        event.id(id.to_string())
    }

    async fn catch_up(&mut self) -> Option<Event> {
        self.open.streams.lagged.increment(1);
        let Watch { id, snapshot, changes } = self.source.watch(Some(self.told)).await.ok()?;
        (self.changes, self.told) = (changes, id);
        Some(beginning(id, &snapshot))
    }
}

fn beginning(id: u64, snapshot: &impl Serialize) -> Event {
    named("snapshot", snapshot).id(id.to_string())
}

pub(super) fn named(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("events are plain data with string keys")
}

/// A stream's place among those that may be open.
struct Open {
    streams: Arc<Streams>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(place: OwnedSemaphorePermit, streams: Arc<Streams>) -> Open {
        streams.open.increment(1);
        Open { streams, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.streams.open.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{body::to_bytes, response::IntoResponse};
    use tokio::sync::broadcast;

    use super::*;

    const NOT_JOURNALLED: u32 = 7;

    /// Hands out the receivers it was given, one for each time it is asked; its snapshot is what was seen before.
    struct Numbers(Mutex<Vec<Receiver<u32>>>);

    impl Source for Numbers {
        type Snapshot = u64;
        type Change = u32;

        fn watch(&self, after: Option<u64>) -> Watching<'_, u64, u32> {
            let changes = self.0.lock().unwrap().pop().expect("as many receivers as questions");
            Box::pin(async move { Ok(Watch { id: 0, snapshot: after.unwrap_or(99), changes }) })
        }

        fn id(change: &u32) -> Option<u64> {
            (*change != NOT_JOURNALLED).then_some(u64::from(*change))
        }

        fn event(&self, change: u32) -> Event {
            named("number", &change)
        }
    }

    fn numbers(receivers: Vec<Receiver<u32>>) -> Numbers {
        Numbers(Mutex::new(receivers))
    }

    async fn text(stream: EventStream) -> String {
        let body = to_bytes(stream.into_response().into_body(), 4096).await.unwrap();
        String::from_utf8(body.into()).unwrap()
    }

    /// One that nobody takes back.
    fn token() -> UntilVoid {
        UntilVoid(Box::pin(future::pending()))
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_gets_a_new_snapshot() {
        let (sender, behind) = broadcast::channel(1);
        (1..=3).for_each(|number| drop(sender.send(number)));
        let anew = sender.subscribe();
        sender.send(4).unwrap();
        drop(sender);
        let events = Events::new(1, CancellationToken::new());
        let stream = events.stream(numbers(vec![anew, behind]), After(Some(5)), token()).await.unwrap();
        let expected = "event: snapshot\ndata: 5\nid: 0\n\n\
                        event: snapshot\ndata: 0\nid: 0\n\n\
                        event: number\ndata: 4\nid: 4\n\n";
        assert_eq!(text(stream).await, expected, "the second one from where the first had come to");
    }

    #[tokio::test]
    async fn what_has_no_place_in_the_journal_leaves_the_readers_last_id() {
        let (sender, receiver) = broadcast::channel(2);
        sender.send(NOT_JOURNALLED).unwrap();
        drop(sender);
        let stream =
            Events::new(1, CancellationToken::new()).stream(numbers(vec![receiver]), After(None), token()).await;
        let told = text(stream.unwrap()).await;
        assert_eq!(told, "event: snapshot\ndata: 99\nid: 0\n\nevent: number\ndata: 7\n\n");
    }

    #[tokio::test]
    async fn an_id_that_is_none_of_ours_says_nothing() {
        for (sent, expected) in [("17", Some(17)), (" 17 ", Some(17)), ("", None), ("a", None), ("-1", None)] {
            let request = axum::http::Request::builder().header("Last-Event-ID", sent).body(()).unwrap();
            let After(after) = After::from_request_parts(&mut request.into_parts().0, &()).await.unwrap();
            assert_eq!(after, expected, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_past_the_bound_is_refused_and_a_closed_one_makes_room() {
        let events = Events::new(1, CancellationToken::new());
        let (sender, receiver) = broadcast::channel(1);
        let first = events.stream(numbers(vec![receiver]), After(None), token()).await;
        let refused = events.stream(numbers(vec![sender.subscribe()]), After(None), token()).await.err().unwrap();
        assert_eq!(refused.code(), Code::Overloaded);
        drop(first);
        assert!(events.stream(numbers(vec![sender.subscribe()]), After(None), token()).await.is_ok());
    }

    #[tokio::test]
    async fn a_drain_ends_the_stream() {
        let shutdown = CancellationToken::new();
        let (_sender, receiver) = broadcast::channel(1);
        let stream =
            Events::new(1, shutdown.clone()).stream(numbers(vec![receiver]), After(None), token()).await.unwrap();
        shutdown.cancel();
        text(stream).await;
    }
}
