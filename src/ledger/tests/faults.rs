//! Disks that fill up, fail, tear writes and come back.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// A small file system of its own, where the tests run as root.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        disk.command("mount", &["-t", "tmpfs", "-o", options, "none"]).then_some(disk)
    }

    fn command(&self, command: &str, arguments: &[&str]) -> bool {
        Command::new(command).args(arguments).arg(self.0.path()).output().is_ok_and(|done| done.status.success())
    }

    fn fill(&self) {
        let _ = fs::write(self.0.path().join("filler"), vec![1; 8 << 20]);
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.command("umount", &["--lazy"]);
    }
}

/// Until the journal says that it lacks this; `None`: nothing.
async fn until_lack(ledger: &Ledger, lack: Option<&str>) {
    let began = Instant::now();
    while ledger.lack().as_deref() != lack {
        assert!(began.elapsed() < Duration::from_secs(20), "it lacks {:?}", ledger.lack());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again_without_anybody_asking() {
    let Some(disk) = SmallDisk::mount("size=4m") else { return eprintln!("only root can mount a small disk") };
    let ledger = Ledger::open(&config(), disk.0.path()).unwrap();
    until_lack(&ledger, None).await;
    let mut acknowledged = 0;
    disk.fill();
    // What fits into the pages that the files have already is still taken.
    let refused = loop {
        match ledger.append(vec![entry(acknowledged)]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, LedgerError::DiskFull);
    assert_eq!(ledger.lack().as_deref(), Some("the disk under the journal is full"));
    tokio::time::sleep(PROBED).await;
    assert!(ledger.lack().is_some(), "a probe does not take room that is not there");
    disk.free();
    until_lack(&ledger, None).await;
    assert_eq!(ledger.append(vec![entry(acknowledged)]).await, Ok(Seq(u64::from(acknowledged) + 1)));
    assert_eq!(replayed(&ledger), (0..=acknowledged).map(entry).collect::<Vec<_>>());
    verify(disk.0.path()).unwrap();
}

/// Longer than the first pauses between probes.
const PROBED: Duration = Duration::from_millis(1_200);

#[tokio::test]
async fn a_journal_on_a_read_only_disk_says_what_to_do() {
    let Some(disk) = SmallDisk::mount("size=4m") else { return eprintln!("only root can mount a small disk") };
    Ledger::open(&config(), disk.0.path()).unwrap().close().await.unwrap();
    // The thread lets go of its files a moment after it has answered.
    let began = Instant::now();
    while !disk.command("mount", &["-o", "remount,ro"]) {
        assert!(began.elapsed() < Duration::from_secs(5), "it is still in use");
    }
    let refused = Ledger::open(&config(), disk.0.path()).err().expect("nothing can be written");
    assert_eq!(refused.to_string(), "ledger.db cannot be written: make it and its folder writable for the engine");
}

#[tokio::test]
async fn a_journal_whose_end_is_cut_off_is_not_opened() {
    let folder = journal_of(9).await;
    tamper(folder.path(), "DELETE FROM journal WHERE seq = 9");
    let Err(OpenError::Torn { head, last }) = Ledger::open(&config(), folder.path()) else { panic!("it opens") };
    assert_eq!((head.seq, last.seq), (Seq(9), Seq(8)));
}

#[tokio::test]
async fn another_journal_in_the_same_place_is_not_written() {
    let (one, other) = (journal_of(9).await, journal_of(8).await);
    let known = verify(one.path()).unwrap().head;
    store::reopen_writer(&Ledger::file(one.path()), known).unwrap();
    for known in [known, Head { seq: Seq(8), ..known }] {
        let refused = store::reopen_writer(&Ledger::file(other.path()), known);
        assert!(matches!(refused, Err(OpenError::Replaced(_))), "{refused:?}");
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(store::reopen_writer(&Ledger::file(nothing.path()), known).is_err());
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0, "none is made");
}

/// The files of a journal as a power cut leaves them, and how long the WAL was after each append.
struct Cut {
    database: Vec<u8>,
    wal: Vec<u8>,
    lengths: Vec<u64>,
}

/// Entries that are in the database itself, and those that are only in the WAL.
const CHECKPOINTED: u8 = 10;
const IN_WAL: u8 = 40;

async fn power_cut() -> Cut {
    let folder = journal_of(CHECKPOINTED).await;
    let config = Config { checkpoint_entries: u64::MAX, ..config() };
    let ledger = Ledger::open(&config, folder.path()).unwrap();
    let wal = folder.path().join("ledger.db-wal");
    let mut lengths = Vec::new();
    for number in CHECKPOINTED..CHECKPOINTED + IN_WAL {
        ledger.append(vec![entry(number)]).await.unwrap();
        lengths.push(fs::metadata(&wal).unwrap().len());
    }
    let database = fs::read(Ledger::file(folder.path())).unwrap();
    Cut { database, wal: fs::read(wal).unwrap(), lengths }
}

#[tokio::test]
async fn a_torn_write_costs_what_comes_after_it_and_nothing_else() {
    let Cut { database, wal, lengths } = power_cut().await;
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let begin = lengths[0] as usize;
    for trial in 0..60 {
        let at = random.random_range(if trial % 4 == 0 { 0..begin } else { begin..wal.len() });
        let mut torn = wal.clone();
        if trial % 2 == 0 {
            torn.truncate(at);
        } else {
            torn[at] ^= 1 << random.random_range(0..8);
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(Ledger::file(folder.path()), &database).unwrap();
        fs::write(folder.path().join("ledger.db-wal"), torn).unwrap();
        let ledger = Ledger::open(&config(), folder.path()).unwrap();
        let intact = lengths.iter().filter(|length| **length <= at as u64).count() as u8;
        let left = (0..CHECKPOINTED + intact).map(entry).collect::<Vec<_>>();
        assert_eq!(replayed(&ledger), left, "seed {seed}, trial {trial}, byte {at}");
        ledger.append(vec![entry(0)]).await.unwrap();
        assert_eq!(verify(folder.path()).unwrap().entries, left.len() as u64 + 1, "seed {seed}, trial {trial}");
    }
}

/// Bytes of a page of SQLite's.
const PAGE: usize = 4096;

#[tokio::test]
async fn a_file_of_which_a_byte_changed_is_found_out_or_reads_as_before() {
    let folder = journal_of(40).await;
    let file = fs::read(Ledger::file(folder.path())).unwrap();
    // Most of a young file is the room that a probe of the disk took: nothing lies there that could be found out.
    let holds_something = |at: &usize| file[at - at % PAGE..].iter().take(PAGE).any(|byte| *byte != 0);
    let held = (0..file.len()).filter(holds_something).collect::<Vec<_>>();
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut found = 0;
    for trial in 0..300 {
        let at = held[random.random_range(0..held.len())];
        let mut changed = file.clone();
        changed[at] ^= 1 << random.random_range(0..8);
        fs::write(Ledger::file(folder.path()), changed).unwrap();
        let mut read = Vec::new();
        let verified = Journal::open(&Ledger::file(folder.path())).ok().and_then(|journal| {
            let keep = |_, entry: Option<&Entry>| {
                read.extend(entry.cloned());
                Ok(())
            };
            journal.verify(None, keep).ok()
        });
        match verified {
            Some(_) => {
                assert_eq!(read, (0..40).map(entry).collect::<Vec<_>>(), "seed {seed}, trial {trial}, byte {at}");
            }
            None => found += 1,
        }
    }
    assert!(found > 0, "seed {seed}: not one of 300");
}

fn with_payload(bytes: usize) -> Append {
    Append { entries: vec![Entry { payload: vec![0; bytes], ..entry(1) }], claim: None, is_first: false }
}

#[test]
fn a_failed_transaction_leaves_no_trace_of_any_append_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = Ledger::file(folder.path());
    let mut writer = store::open_writer(&path).unwrap();
    let (head, _) = store::append(&mut writer, Head::EMPTY, &[with_payload(10)], 0).unwrap();
    let pages: i64 = writer.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    writer.execute_batch(&format!("PRAGMA max_page_count = {}", pages + 2)).unwrap();
    let failed = store::append(&mut writer, head, &[with_payload(20), with_payload(100_000)], 0);
    assert_eq!(failed, Err(LedgerError::DiskFull));
    assert_eq!(Journal::open(&path).unwrap().head(), Ok(head));
    store::append(&mut writer, head, &[with_payload(30)], 0).unwrap();
    assert_eq!(verify(folder.path()).unwrap().entries, 2);
}

#[test]
fn a_journal_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    drop(store::open_writer(&Ledger::file(folder.path())).unwrap());
    let mut reader = store::open_reader(&Ledger::file(folder.path())).unwrap();
    let refused = store::append(&mut reader, Head::EMPTY, &[with_payload(10)], 0);
    assert_eq!(refused, Err(LedgerError::ReadOnly));
}

#[tokio::test]
async fn a_copy_of_a_journal_that_is_written_meanwhile_is_the_journal_at_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&config(), folder.path()).unwrap();
    let filler = |number| Entry { payload: vec![number; 40_000], ..entry(number) };
    // 800 pages, so that the copy takes a while; then appends all the time.
    ledger.append((0..200).map(filler).collect()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let writer = ledger.clone();
    let appending = tokio::spawn(async move {
        let mut stopped = stopped;
        while stopped.try_recv().is_err() {
            writer.append(vec![entry(1)]).await.unwrap();
        }
    });
    let (from, to) = (Ledger::file(folder.path()), folder.path().join("copy"));
    let before = Journal::open(&from).unwrap().head().unwrap();
    let into = to.clone();
    tokio::task::spawn_blocking(move || copy(&from, &into, |_, _| ())).await.unwrap().unwrap();
    stop.send(()).unwrap();
    appending.await.unwrap();
    let head = Journal::open(&to).unwrap().verify(None, |_, _| Ok(())).unwrap().head;
    assert!(head.seq >= before.seq);
    let original = Journal::open(&Ledger::file(folder.path())).unwrap();
    original.verify(Some(head), |_, _| Ok(())).unwrap();
    let mut side_files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    assert!(!side_files.any(|name| name.to_string_lossy().starts_with("copy-")), "the copy is one file");
    assert!(copy(&Ledger::file(folder.path()), &to, |_, _| ()).is_err(), "nothing is overwritten");
}
