//! How many lines a minute `forecourt import devices` takes: into a folder, the same file again, and through a running
//! engine that has other writes to do meanwhile.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;

use crate::{
    flood::dongles::Dongles,
    people::client::{CallError, Client},
    process::{self, Serve, ServeError, ServeOptions},
};

const HEADER: &str = "device_id,scheme,key_hex,proof_key_hex,plate,fuel,phone_key_hex,payment_means,activation_code";

/// Another writer asks this often.
const ASK_EACH: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct Config {
    pub dongles: Dongles,
    /// With a phone, two means of payment and an activation code on each line; without, with a plate and a fuel.
    pub is_full: bool,
    /// Through a running engine as well.
    pub through_engine: bool,
    pub engine: Option<PathBuf>,
}

/// What it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    pub lines: u64,
    pub file_bytes: u64,
    /// Into an empty folder.
    pub seconds: f64,
    pub lines_per_minute: f64,
    pub store_bytes_per_line: f64,
    /// The same file again, as after an import that was killed at its end.
    pub again_seconds: f64,
    pub again_lines_per_minute: f64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub through_engine: Option<ThroughEngine>,
}

/// Through an engine that starts empty, while another writer asks for a token each 50 ms.
#[derive(Debug, Clone, Serialize)]
pub struct ThroughEngine {
    pub engine_seconds: f64,
    pub engine_lines_per_minute: f64,
    pub other_writes: u64,
    pub other_write_p50_ms: f64,
    pub other_write_p99_ms: f64,
    pub other_write_max_ms: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportsError {
    #[error("the file of dongles: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the import ended with {0}; what it said stands above")]
    Import(ExitStatus),
    #[error("another write failed: {0}")]
    Other(#[from] CallError),
}

pub async fn run(config: &Config) -> Result<Imported, ImportsError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("devices.csv");
    write_csv(config, BufWriter::new(File::create(&file)?))?;
    let program = config.engine.clone().map_or_else(process::binary_beside_us, Ok)?;
    let data = folder.path().join("alone");
    let lines = config.dongles.count;
    let first = import(&program, &data, &file)?;
    let store_bytes = data.join("registrations.db").metadata()?.len();
    let again = import(&program, &data, &file)?;
    std::fs::remove_dir_all(&data)?;
    let through_engine = if config.through_engine {
        Some(through_engine(config, &program, &folder.path().join("served"), &file).await?)
    } else {
        None
    };
    Ok(Imported {
        lines,
        file_bytes: file.metadata()?.len(),
        seconds: first.as_secs_f64(),
        lines_per_minute: per_minute(lines, first),
        store_bytes_per_line: store_bytes as f64 / lines.max(1) as f64,
        again_seconds: again.as_secs_f64(),
        again_lines_per_minute: per_minute(lines, again),
        through_engine,
    })
}

async fn through_engine(
    config: &Config,
    program: &Path,
    data: &Path,
    file: &Path,
) -> Result<ThroughEngine, ImportsError> {
    std::fs::create_dir_all(data)?;
    let options = ServeOptions { data: data.into(), binary: Some(program.into()), ..ServeOptions::default() };
    let engine = Serve::start(options).await?;
    let operator =
        Client::new(format!("http://{}", engine.addresses().http)).with_token(engine.operator_token().to_owned());
    let mut command = process::command(program, data, &[]);
    let begun = Instant::now();
    let mut child = command.args(["import", "devices"]).arg(file).spawn()?;
    let mut waits = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let asked = Instant::now();
        let body = json!({ "name": "other", "valid_ms": 1 });
        operator.post::<serde_json::Value>("/v1/operators", &body).await?;
        waits.push(asked.elapsed());
        tokio::time::sleep(ASK_EACH.saturating_sub(asked.elapsed())).await;
    };
    let took = begun.elapsed();
    engine.stop().await?;
    if !status.success() {
        return Err(ImportsError::Import(status));
    }
    waits.sort_unstable();
    let quantile = |share: f64| {
        let place = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits.get(place).map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
    };
    Ok(ThroughEngine {
        engine_seconds: took.as_secs_f64(),
        engine_lines_per_minute: per_minute(config.dongles.count, took),
        other_writes: waits.len() as u64,
        other_write_p50_ms: quantile(0.5),
        other_write_p99_ms: quantile(0.99),
        other_write_max_ms: quantile(1.0),
    })
}

fn import(program: &Path, data: &Path, file: &Path) -> Result<Duration, ImportsError> {
    let mut command: Command = process::command(program, data, &[]);
    let begun = Instant::now();
    let status = command.args(["import", "devices"]).arg(file).status()?;
    if status.success() { Ok(begun.elapsed()) } else { Err(ImportsError::Import(status)) }
}

pub(crate) fn per_minute(lines: u64, took: Duration) -> f64 {
    lines as f64 * 60.0 / took.as_secs_f64()
}

fn write_csv(config: &Config, mut out: impl Write) -> io::Result<()> {
    if !config.is_full {
        return config.dongles.write_csv(out, |_| {});
    }
    writeln!(out, "{HEADER}")?;
    for index in 0..config.dongles.count {
        let (device, root) = (Dongles::device(index), config.dongles.root_hex(index));
        // Any 32 bytes are a phone's key as far as an import can tell, and a real one would take longer than the rest.
        let phone = config.dongles.root_hex(index + config.dongles.count);
        writeln!(out, "{device},hmac,{root},,FC{device:08},diesel,{phone},tok_a{device};tok_b{device},L-{device}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_has_every_column() {
        let config =
            Config { dongles: Dongles { seed: 1, count: 3 }, is_full: true, through_engine: false, engine: None };
        let mut csv = Vec::new();
        write_csv(&config, &mut csv).unwrap();
        let csv = String::from_utf8(csv).unwrap();
        assert_eq!(csv.lines().count(), 4);
        assert!(csv.lines().all(|line| line.split(',').count() == 9), "{csv}");
    }
}
