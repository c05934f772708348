//! Where in its history the store is, so that no copy of another history passes for one of this.
//!
//! A store that is put back from a backup counts on from an earlier revision, and comes to revisions that it has been at
//! before, with other changes. So its history is told in lives, as PostgreSQL's is in timelines: whoever opens it for
//! writing begins one, under a random name, with the next revision. A copy notes name and revision, and is believed only
//! while the table of lives gives that revision to that name: a restored store lacks the lives after its backup, and ends
//! the one that the backup was made in where the next begins.
//!
//! ```text
//! lives:    first 1, "a"      first 8, "b"                      backup at 9
//!           1 2 3 4 5 6 7     8 9 10 11 12 ...                  10 of "b" was after it:
//! restored: 1 2 3 4 5 6 7     8 9  | first 10, "c": 10 11 12    the store is at 10 of "c", and never was there
//! ```

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension as _};

use super::revision::{Revision, revision};

/// Lives that are remembered, 20 bytes each: three years of a start a day. A copy of before them all is made anew.
const LIVES_MAX: u32 = 1_000;

/// The random name of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life(pub [u8; 8]);

/// A revision of one life. The default is no store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    pub life: Life,
    pub revision: Revision,
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", hex::encode(self.life.0), self.revision.0)
    }
}

/// Text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a life and a revision")]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Moment, NoMoment> {
        let (name, revision) = text.split_once(':').ok_or(NoMoment)?;
        let mut life = Life::default();
        hex::decode_to_slice(name, &mut life.0).map_err(|_| NoMoment)?;
        Ok(Moment { life, revision: Revision(revision.parse().map_err(|_| NoMoment)?) })
    }
}

/// What is going to be changed belongs to a life of its own. One in which nothing was changed leaves no trace.
pub(super) fn begin_life(db: &Connection) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO lives (first, name) SELECT count + 1, randomblob(8) FROM revision", [])?;
    let oldest = "SELECT first FROM lives ORDER BY first DESC LIMIT 1 OFFSET ?1";
    db.execute(&format!("DELETE FROM lives WHERE first < ({oldest})"), [LIVES_MAX - 1]).map(drop)
}

/// The moment of the last change that is visible to this connection.
pub(in crate::registration) fn moment(db: &Connection) -> rusqlite::Result<Moment> {
    moment_of(db, revision(db)?)
}

/// Of a revision of this store that is not older than all lives.
pub(in crate::registration) fn moment_of(db: &Connection, revision: Revision) -> rusqlite::Result<Moment> {
    let life = db
        .prepare_cached("SELECT name FROM lives WHERE first <= ?1 ORDER BY first DESC LIMIT 1")?
        .query_row([revision.0.min(i64::MAX as u64) as i64], |row| row.get(0).map(Life))?;
    Ok(Moment { life, revision })
}

/// Whether the store was ever there: what a copy of that moment says was true then, and
/// [`changed_since`](super::revision::changed_since) tells what is not any more.
pub(in crate::registration) fn has_been_at(db: &Connection, of_copy: Moment) -> rusqlite::Result<bool> {
    let known = moment_of(db, of_copy.revision).optional()?;
    Ok(known == Some(of_copy) && of_copy.revision <= revision(db)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::revision::next_revision;
    use super::super::schema;
    use super::*;

    /// Opens the store, makes so many changes, and says at which moment that ended.
    fn live(path: &Path, changes: usize) -> Moment {
        let db = schema::open_writer(path).unwrap();
        for _ in 0..changes {
            next_revision(&db).unwrap();
        }
        moment(&db).unwrap()
    }

    fn knows(path: &Path, of_copy: Moment) -> bool {
        has_been_at(&schema::open_reader(path).unwrap(), of_copy).unwrap()
    }

    #[test]
    fn a_store_knows_all_moments_that_it_was_at_and_those_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["one.db", "other.db"].map(|name| folder.path().join(name));
        let moments = [0, 3, 0, 2].map(|changes| live(&path, changes));
        assert_eq!(moments.map(|moment| moment.revision.0), [0, 3, 3, 5]);
        assert_eq!(moments[1], moments[2], "a start without a change tells no new history");
        assert_ne!(moments[2].life, moments[3].life);
        assert!(moments.iter().all(|moment| knows(&path, *moment)));
        live(&other, 5);
        assert!(!moments.iter().any(|moment| knows(&other, *moment)));
        let ahead = Moment { revision: Revision(6), ..moments[3] };
        let elsewhere = Moment { life: moments[1].life, revision: Revision(4) };
        let nowhere = Moment { revision: Revision(u64::MAX), ..moments[3] };
        assert!(![ahead, elsewhere, nowhere, Moment::default()].iter().any(|moment| knows(&path, *moment)));
    }

    #[test]
    fn a_restored_store_knows_what_was_before_its_backup_and_nothing_that_was_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        live(&path, 2);
        // In the middle of a life, as of a running engine; the log of the writes is in the file by then.
        let db = schema::open_writer(&path).unwrap();
        next_revision(&db).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let (backup, at_backup) = (std::fs::read(&path).unwrap(), moment(&db).unwrap());
        next_revision(&db).unwrap();
        let after = moment(&db).unwrap();
        drop(db);
        let later = live(&path, 1);

        let mut seen = Vec::new();
        for _ in 0..2 {
            std::fs::write(&path, &backup).unwrap();
            assert!(!knows(&path, after), "before anybody has opened it");
            seen.extend([live(&path, 1), live(&path, 1), live(&path, 1)]);
            assert!(knows(&path, at_backup));
            assert!(!knows(&path, after) && !knows(&path, later), "its revisions are passed by now");
        }
        let (first_time, second_time) = seen.split_at(3);
        assert!(!first_time.iter().any(|moment| knows(&path, *moment)), "nor that of the first restoration");
        assert!(second_time.iter().all(|moment| knows(&path, *moment)));
    }

    #[test]
    fn no_more_lives_are_remembered_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let db = schema::open_writer(&folder.path().join("test.db")).unwrap();
        let old = moment(&db).unwrap();
        db.execute_batch("BEGIN").unwrap();
        for _ in 0..2 * LIVES_MAX {
            next_revision(&db).unwrap();
            begin_life(&db).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        let count: u32 = db.query_row("SELECT count(*) FROM lives", [], |row| row.get(0)).unwrap();
        assert_eq!(count, LIVES_MAX);
        assert!(has_been_at(&db, moment(&db).unwrap()).unwrap());
        assert!(!has_been_at(&db, old).unwrap());
    }

    #[test]
    fn a_moment_reads_back_from_its_text() {
        let moment = Moment { life: Life(*b"\x01\xfflives!"), revision: Revision(u64::MAX) };
        assert_eq!(moment.to_string().parse(), Ok(moment));
        for text in ["", "7", ":7", "01ff:7", "01ff6c6976657321", "01ff6c6976657321:", "01ff6c6976657321:-1"] {
            assert_eq!(text.parse::<Moment>(), Err(NoMoment), "{text}");
        }
    }
}
