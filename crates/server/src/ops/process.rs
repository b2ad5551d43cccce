//! What the process uses, read from `/proc` (Linux; elsewhere there is nothing to show).

use std::fs;

/// Figures of this process.
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) open_files: f64,
    pub(super) threads: f64,
}

/// Clock ticks per second in `/proc`: fixed by Linux for user space on every architecture we build for.
const TICKS: f64 = 100.0;

pub(super) fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; fields are counted after it, from the third on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident_kib: f64 =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    // The directory that is read is open itself.
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident_bytes: resident_kib * 1024.0,
        open_files: u32::try_from(open_files).map_or(0.0, f64::from),
        threads: field(20)?,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_threads() {
        let process = read().unwrap();
        assert!(process.resident_bytes > 100_000.0 && process.open_files >= 3.0 && process.threads >= 1.0);
        assert!(process.cpu_seconds >= 0.0);
    }
}
