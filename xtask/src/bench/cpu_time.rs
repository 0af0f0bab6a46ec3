//! The processor time and the memory of a process, its threads and its descendants, as the kernel counts them.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::process::tree;

/// `utime` and `stime` of all living processes of the tree. The kernel shows them in steps of
/// 10 ms; what stands behind them is exact.
pub fn of_tree(root: u32) -> Result<Duration> {
    let ticks: u64 = tree::of(root)?.values().map(|process| process.ticks).sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// Bytes of memory of all processes of the tree, but for those that a file backs; what several share counts once.
pub fn memory_of_tree(root: u32) -> Result<u64> {
    let mut kilobytes = 0;
    for id in tree::of(root)?.keys() {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        kilobytes += read_memory(&text);
    }
    Ok(kilobytes * 1024)
}

/// Kilobytes in `smaps_rollup`: each process's part of what it has, anonymous or shared.
fn read_memory(text: &str) -> u64 {
    let of = |line: &str| {
        let rest = line.strip_prefix("Pss_Anon:").or_else(|| line.strip_prefix("Pss_Shmem:"))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_no_file_backs() {
        let text = "Rss: 90 kB\nPss_Anon: 10 kB\nPss_File: 50 kB\nPss_Shmem: 7 kB\nShared_Clean: 3 kB\n";

        assert_eq!(read_memory(text), 17);
    }

    #[test]
    fn our_own_time_grows_with_work() {
        let before = of_tree(std::process::id()).expect("/proc is there");
        let mut sum = 0u64;
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }

        assert!(of_tree(std::process::id()).expect("/proc is there") > before);
    }
}
