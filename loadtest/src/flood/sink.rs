//! The floor: a bare QUIC endpoint that takes what uplinks send and throws it away.
//!
//! It has the engine's own endpoint, so TLS, windows, socket and certificates are the same, speaks its hello, and then
//! only reads, into one buffer a thread. It runs as a process of its own: what it costs is what the wire costs.
//!
//! The parent talks to it over its standard streams: it says its address, and after every line that it is told, how
//! many bytes of batches it has read.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, BufRead as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use forecourt::{
    config::Settings,
    engine::{
        batch,
        control::{Inbox, MESSAGE_BYTES_MAX, Message, Welcome},
    },
    ingest, telemetry,
};
use quinn::{Connection, Endpoint, Incoming, RecvStream};
use tokio::sync::oneshot;

use super::chain::SLOT;

/// Larger reads cost nothing less, smaller ones more.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// On which of tokio's runtimes the sink runs. Quinn costs less on a current-thread one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkRuntime {
    Current,
    Multi,
}

#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Start(#[from] ingest::StartError),
    #[error("the sink's parent, or its socket: {0}")]
    Io(#[from] io::Error),
}

/// Reads until the parent closes our standard input.
pub fn run(data: &Path, runtime: SinkRuntime) -> Result<(), SinkError> {
    let runtime = match runtime {
        SinkRuntime::Current => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        SinkRuntime::Multi => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
    };
    let mut config = Settings::default().ingest;
    config.listen = "127.0.0.1:0".parse().expect("a loopback address");
    let endpoint = {
        let _inside = runtime.enter();
        ingest::endpoint(&config, data)?
    };
    println!("{}", endpoint.local_addr()?);
    let read = Arc::new(AtomicU64::new(0));
    runtime.spawn(accept(endpoint, read.clone()));
    let (orphaned, parent_gone) = oneshot::channel();
    thread::spawn(move || orphaned.send(report(&read)));
    Ok(runtime.block_on(parent_gone).expect("the reporter has a last word")?)
}

/// Ends with the parent.
fn report(read: &AtomicU64) -> io::Result<()> {
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", read.load(Ordering::Relaxed))?;
        out.flush()?;
    }
    Ok(())
}

async fn accept(endpoint: Endpoint, read: Arc<AtomicU64>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve(incoming, read.clone()));
    }
}

/// A connection that breaks is the sender's to notice.
async fn serve(incoming: Incoming, read: Arc<AtomicU64>) -> Option<()> {
    let connection = incoming.await.ok()?;
    let _control = welcome(&connection).await?;
    let mut batches = connection.accept_uni().await.ok()?;
    while let Some(count) = read_some(&mut batches).await? {
        read.fetch_add(count as u64, Ordering::Relaxed);
    }
    // Closed by the sender, once it knows that everything has arrived.
    connection.closed().await;
    Some(())
}

/// Answers a hello as the engine does; the control stream lives as long as what is returned.
async fn welcome(connection: &Connection) -> Option<(quinn::SendStream, RecvStream)> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let mut inbox = Inbox::default();
    while !matches!(inbox.take().ok()?, Some(Message::Hello(_))) {
        inbox.push(&receive.read_chunk(MESSAGE_BYTES_MAX, true).await.ok()??.bytes);
    }
    let welcome =
        Welcome { version: batch::VERSION, now: telemetry::now(), slot_seconds: SLOT.seconds() as u16, applied: None };
    send.write_all(&Message::Welcome(welcome).encode()).await.ok()?;
    Some((send, receive))
}

/// `Some(None)` at the end of the stream, `None` when it broke.
async fn read_some(stream: &mut RecvStream) -> Option<Option<usize>> {
    let count = poll_fn(|context| BUFFER.with_borrow_mut(|buffer| stream.poll_read(context, buffer)));
    match count.await {
        Ok(0) => Some(None),
        Ok(count) => Some(Some(count)),
        Err(_) => None,
    }
}
