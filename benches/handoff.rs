//! What it would cost to hand a batch to a station: an actix message, awaited or not, beside a bare channel. It is why
//! a station owns the stream of its uplink.
//!
//! `cargo bench --bench handoff`. One thread: sender and receiver share a current-thread runtime, as the listener and
//! a station on the same arbiter do. Each iteration hands over 100 messages of the size of a small batch's `Bytes`.

use actix::prelude::*;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u64 = 100;

#[derive(Message)]
#[rtype(result = "usize")]
struct Batch(Bytes);

struct Counter(usize);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Batch> for Counter {
    type Result = usize;

    fn handle(&mut self, Batch(bytes): Batch, _: &mut Context<Self>) -> usize {
        self.0 += bytes.len();
        self.0
    }
}

fn handoff(c: &mut Criterion) {
    let system = System::new();
    let bytes = Bytes::from(vec![0_u8; 170]);
    let mut group = c.benchmark_group("handoff");
    group.throughput(Throughput::Elements(MESSAGES));

    group.bench_function("floor/channel", |b| {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(MESSAGES as usize);
        let (done, mut is_done) = tokio::sync::mpsc::channel::<usize>(1);
        system.block_on(async {
            actix::spawn(async move {
                let mut total = 0;
                for count in 1_u64.. {
                    let Some(bytes) = receiver.recv().await else { return };
                    total += bytes.len();
                    if count % MESSAGES == 0 && done.send(total).await.is_err() {
                        return;
                    }
                }
            });
        });
        b.iter(|| {
            system.block_on(async {
                for _ in 0..MESSAGES {
                    sender.send(bytes.clone()).await.expect("the receiver runs");
                }
                is_done.recv().await.expect("the receiver runs")
            })
        });
    });

    let actor = system.block_on(async {
        Counter::create(|ctx| {
            ctx.set_mailbox_capacity(MESSAGES as usize);
            Counter(0)
        })
    });
    group.bench_function("actor/try_send", |b| {
        b.iter(|| {
            system.block_on(async {
                for _ in 1..MESSAGES {
                    actor.try_send(Batch(bytes.clone())).expect("the mailbox holds them all");
                }
                actor.send(Batch(bytes.clone())).await.expect("the actor runs")
            })
        });
    });
    group.bench_function("actor/send", |b| {
        b.iter(|| {
            system.block_on(async {
                for _ in 0..MESSAGES {
                    actor.send(Batch(bytes.clone())).await.expect("the actor runs");
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, handoff);
criterion_main!(benches);
