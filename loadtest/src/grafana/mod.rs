//! What ships in `grafana/`: written as JSON ([`board`]), and tried against a real Prometheus ([`prometheus`]) that
//! scrapes a real engine while a small town makes traffic ([`trial`]).

pub mod board;
pub mod prometheus;
pub mod selector;
pub mod trial;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use board::Board;

#[derive(Debug, thiserror::Error)]
pub enum BoardsError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Text { path: PathBuf, source: toml::de::Error },
}

/// The folder of what ships, in the tree that this was built from.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the tree").join("grafana")
}

/// Every dashboard, with the file that Grafana reads it from.
pub fn boards(folder: &Path) -> Result<Vec<(PathBuf, Board)>, BoardsError> {
    let dashboards = folder.join("dashboards");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BoardsError::File { path, source }
    };
    let mut boards = Vec::new();
    for entry in fs::read_dir(&dashboards).map_err(failed(&dashboards))? {
        let path = entry.map_err(failed(&dashboards))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            let board = Board::read(&text).map_err(|source| BoardsError::Text { path: path.clone(), source })?;
            boards.push((path.with_extension("json"), board));
        }
    }
    boards.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(boards)
}

/// What the file of a dashboard holds.
pub fn text(board: &Board) -> String {
    serde_json::to_string_pretty(&board.document()).expect("a dashboard is plain data") + "\n"
}

/// Writes the dashboards for Grafana.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>, BoardsError> {
    let mut written = Vec::new();
    for (path, board) in boards(folder)? {
        fs::write(&path, text(&board)).map_err(|source| BoardsError::File { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}
