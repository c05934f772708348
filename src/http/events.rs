//! Live changes as server-sent events: a `snapshot`, then the changes after it.
//!
//! Changes come through a bounded channel. A reader that falls behind has lost some, so it gets a new snapshot
//! instead: what it shows is whole again, and nobody waits for it. Streams are bounded, since each holds a connection
//! and a buffer for as long as its reader likes; they end when the engine drains.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_util::{
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _, unfold},
};
use serde::Serialize;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    broadcast::{Receiver, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use super::{
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

/// The present, and the changes after it.
pub(super) type Watching<'a, S, C> = BoxFuture<'a, Result<(S, Receiver<C>), Problem>>;

/// Where a stream's events come from.
pub(super) trait Source: Send + 'static {
    type Snapshot: Serialize + Send;
    type Change: Clone + Send + 'static;

    /// The present, and the changes from here on. Asked again after the reader fell behind.
    fn watch(&self) -> Watching<'_, Self::Snapshot, Self::Change>;

    fn event(&self, change: Self::Change) -> Event;
}

impl Events {
    pub(super) fn new(streams_max: usize, shutdown: CancellationToken) -> Events {
        Events { places: Arc::new(Semaphore::new(streams_max)), streams: Arc::new(Streams::new()), shutdown }
    }

    /// Opens a stream; what refuses the first snapshot refuses the call.
    pub(super) async fn stream<S: Source>(&self, source: S) -> Result<EventStream, Problem> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.streams.refused.increment(1);
            return Err(Problem::new(Code::Overloaded, "too many event streams are open"));
        };
        let open = Open::new(place, self.streams.clone());
        let (snapshot, changes) = source.watch().await?;
        let reading = Reading { source, changes, first: Some(named("snapshot", &snapshot)), open };
        let events = unfold(reading, |mut reading| async move {
            let event = reading.next().await?;
            Some((Ok(event), reading))
        });
        let events = events.take_until(self.shutdown.clone().cancelled_owned()).boxed();
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
    }
}

/// One reader's stream.
struct Reading<S: Source> {
    source: S,
    changes: Receiver<S::Change>,
    first: Option<Event>,
    open: Open,
}

impl<S: Source> Reading<S> {
    /// `None` ends the stream: its source is gone, and the reader comes again.
    async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.changes.recv().await {
            Ok(change) => Some(self.source.event(change)),
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => None,
        }
    }

    async fn catch_up(&mut self) -> Option<Event> {
        self.open.streams.lagged.increment(1);
        let (snapshot, changes) = self.source.watch().await.ok()?;
        self.changes = changes;
        Some(named("snapshot", &snapshot))
    }
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

    /// Hands out the receivers it was given, one for each time it is asked.
    struct Numbers(Mutex<Vec<Receiver<u32>>>);

    impl Source for Numbers {
        type Snapshot = &'static str;
        type Change = u32;

        fn watch(&self) -> Watching<'_, &'static str, u32> {
            let next = self.0.lock().unwrap().pop().expect("as many receivers as questions");
            Box::pin(async { Ok(("now", next)) })
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

    #[tokio::test]
    async fn a_reader_that_fell_behind_gets_a_new_snapshot() {
        let (sender, behind) = broadcast::channel(1);
        (1..=3).for_each(|number| drop(sender.send(number)));
        let anew = sender.subscribe();
        sender.send(4).unwrap();
        drop(sender);
        let events = Events::new(1, CancellationToken::new());
        let stream = events.stream(numbers(vec![anew, behind])).await.unwrap();
        let snapshot = "event: snapshot\ndata: \"now\"\n\n";
        assert_eq!(text(stream).await, format!("{snapshot}{snapshot}event: number\ndata: 4\n\n"));
    }

    #[tokio::test]
    async fn a_stream_past_the_bound_is_refused_and_a_closed_one_makes_room() {
        let events = Events::new(1, CancellationToken::new());
        let (sender, receiver) = broadcast::channel(1);
        let first = events.stream(numbers(vec![receiver])).await;
        let refused = events.stream(numbers(vec![sender.subscribe()])).await.err().unwrap();
        assert_eq!(refused.code(), Code::Overloaded);
        drop(first);
        assert!(events.stream(numbers(vec![sender.subscribe()])).await.is_ok());
    }

    #[tokio::test]
    async fn a_drain_ends_the_stream() {
        let shutdown = CancellationToken::new();
        let (_sender, receiver) = broadcast::channel(1);
        let stream = Events::new(1, shutdown.clone()).stream(numbers(vec![receiver])).await.unwrap();
        shutdown.cancel();
        text(stream).await;
    }
}
