//! On which cores threads and processes may run.
//!
//! A child inherits the placement of the thread that starts it, so it is placed by placing ourselves for that moment:
//! nothing of ours runs in the child before it is the program that it is to be.

use std::{io, process};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Another thread gets three times the CPU of one that yields, and gets it at once.
const NICENESS: i32 = 5;

/// The cores that the calling thread may run on.
pub fn current() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Keeps the calling thread, and all threads that it starts from now on, on these cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores.iter().filter(|core| **core < CpuSet::MAX_CPU) {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Has the kernel prefer other threads of this process to the calling one, and to those that it starts from now on.
pub fn yield_to_others() -> io::Result<()> {
    rustix::process::nice(NICENESS)?;
    Ok(())
}

/// Starts a process on these cores, or where the calling thread may run.
pub fn spawn(command: &mut process::Command, cores: Option<&[usize]>) -> io::Result<process::Child> {
    let Some(cores) = cores else { return command.spawn() };
    let ours = current()?;
    pin(cores)?;
    let child = command.spawn();
    pin(&ours)?;
    child
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_runs_where_it_is_put_and_we_stay_where_we_were() {
        let before = current().unwrap();
        let last = *before.last().unwrap();
        let mut command = process::Command::new("cat");
        command.arg("/proc/self/status").stdout(process::Stdio::piped());
        let output = spawn(&mut command, Some(&[last])).unwrap().wait_with_output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        assert!(status.contains(&format!("Cpus_allowed_list:\t{last}\n")), "{status}");
        assert_eq!(current().unwrap(), before);
    }

    #[test]
    fn no_core_at_all_is_refused() {
        assert!(pin(&[]).is_err());
    }
}
