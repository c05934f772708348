//! The dongles of a replay, from the file that `import devices` takes. Only what a code is computed from is read.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::engine::{
    code::{Scheme, SchemeError, Secret},
    id::DeviceId,
};

#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: csv::Error },
    #[error("{}: no column {column}", path.display())]
    Column { path: PathBuf, column: &'static str },
}

/// A line that names no dongle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} refused: {reason}")]
pub(super) struct Refusal {
    line: u64,
    reason: String,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) secret: Secret,
}

/// The dongles of a file, and the lines that are none.
pub(super) fn read(path: &Path) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
    let file_error = |source| DevicesError::File { path: path.into(), source };
    let file = File::open(path).map_err(|error| file_error(error.into()))?;
    parse(path, file)
}

fn parse(path: &Path, file: impl Read) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
    let file_error = |source| DevicesError::File { path: path.into(), source };
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(file_error)?.clone();
    let column = |column| {
        let place = header.iter().position(|name| name == column);
        place.ok_or_else(|| DevicesError::Column { path: path.into(), column })
    };
    let columns = [column("device_id")?, column("scheme")?, column("key_hex")?];
    let (mut devices, mut refusals) = (Vec::new(), Vec::new());
    for row in reader.records() {
        let row = row.map_err(file_error)?;
        match device(columns.map(|column| row.get(column).unwrap_or_default())) {
            Ok(device) => devices.push(device),
            Err(reason) => refusals.push(Refusal { line: row.position().map_or(0, csv::Position::line), reason }),
        }
    }
    Ok((devices, refusals))
}

fn device([id, scheme, key]: [&str; 3]) -> Result<Device, String> {
    let id = id.parse().map_err(|error| format!("{error}"))?;
    let secret = scheme.parse().and_then(|scheme: Scheme| scheme.secret(key));
    Ok(Device { id, secret: secret.map_err(|error: SchemeError| error.to_string())? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::code::Code;

    fn read_text(text: &str) -> Result<(Vec<Device>, Vec<Refusal>), DevicesError> {
        parse(Path::new("devices.csv"), text.as_bytes())
    }

    #[test]
    fn every_scheme_is_read_and_other_columns_may_lack() {
        let text = format!(
            "plate,device_id,scheme,key_hex\nx,1,hmac,{h}\nx,2,fixed,{f}\nx,3,eddystone-eid,{f}\n,4,Eddystone-EID/12,{f}",
            h = "ab".repeat(32),
            f = "07".repeat(16),
        );
        let (devices, refused) = read_text(&text).unwrap();
        assert_eq!(refused, []);
        assert!(devices[0].secret == Secret::from_root(&[0xab; 32]));
        assert!(devices[1].secret == Secret::Fixed { code: Code([7; 16]) });
        assert!(devices[2].secret == Secret::EddystoneEid { identity_key: [7; 16], exponent: 10 });
        assert!(devices[3].secret == Secret::EddystoneEid { identity_key: [7; 16], exponent: 12 });
    }

    #[test]
    fn a_wrong_line_is_refused_with_its_number_and_the_others_count() {
        let text = format!("device_id,scheme,key_hex\n1,fixed,{}\n2,fixed,00\nx,hmac,\n3,magic,00", "07".repeat(16));
        let (devices, refused) = read_text(&text).unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(refused.iter().map(|refusal| refusal.line).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(refused[0].to_string(), "line 3 refused: key_hex is not 32 hexadecimal digits");
    }

    #[test]
    fn a_file_without_a_column_says_which() {
        let refusal = read_text("device_id,scheme\n1,fixed").unwrap_err().to_string();
        assert_eq!(refusal, "devices.csv: no column key_hex");
    }
}
