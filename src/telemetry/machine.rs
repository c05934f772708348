//! What the process takes of its machine, and how much of the disk is left. Measured when somebody asks.

use std::path::{Path, PathBuf};

use metrics::{Gauge, Unit, describe_gauge, gauge};
use metrics_process::Collector;

pub(super) struct Machine {
    process: Collector,
    data: PathBuf,
    disk_free: Gauge,
    disk_size: Gauge,
}

impl Machine {
    pub(super) fn new(data: &Path) -> Machine {
        describe_gauge!("forecourt_disk_free_bytes", Unit::Bytes, "What the data folder's disk still takes");
        describe_gauge!("forecourt_disk_size_bytes", Unit::Bytes, "The size of the data folder's disk");
        let process = Collector::default();
        process.describe();
        Machine {
            process,
            data: data.into(),
            disk_free: gauge!("forecourt_disk_free_bytes"),
            disk_size: gauge!("forecourt_disk_size_bytes"),
        }
    }

    pub(super) fn measure(&self) {
        self.process.collect();
        match rustix::fs::statvfs(&self.data) {
            Ok(disk) => {
                self.disk_free.set(disk.f_bavail as f64 * disk.f_frsize as f64);
                self.disk_size.set(disk.f_blocks as f64 * disk.f_frsize as f64);
            }
            Err(error) => tracing::debug!(%error, "the data folder's disk cannot be looked at"),
        }
    }
}
